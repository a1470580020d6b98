#!/usr/bin/env bash
# Sets up .venv, trains the quickstart model on text that is always there, and shows what came out.
# Run again, it goes on with, or shows, the run in runs/quickstart.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

WORKDIR=runs/quickstart
PROMPT='Return the'

install .
.venv/bin/lm train --config=quickstart --workdir="$WORKDIR"

printf '\nA sample, from the prompt "%s":\n\n' "$PROMPT"
.venv/bin/lm generate --workdir="$WORKDIR" --prompt="$PROMPT" --max_new_tokens=80
printf '\n\nThe run, from %s/summary.json:\n\n' "$WORKDIR"
.venv/bin/lm summary --workdir="$WORKDIR"
cat <<END

What next:
  .venv/bin/lm help                               every verb
  .venv/bin/lm train --help                       every field of a config
  .venv/bin/lm data --workdir=$WORKDIR     the rows that it was trained on
  .venv/bin/lm train --config=shakespeare --config.data.source=FILE --workdir=runs/mine
                                                  a model of your own text
END
