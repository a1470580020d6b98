#!/usr/bin/env bash
# Sets up .venv with the test tools, then checks style, types and behaviour. Arguments go to pytest
# (`bash launch/test.sh -m slow`, `bash launch/test.sh tests/data`).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install '.[test]'
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n 2 "$@"
