# Sourced by quickstart.sh and test.sh: makes .venv in the repository and installs into it.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf '%s\n' "$1" >&2
  exit 2
}

# The first Python that `lm` runs on; $PYTHON, where set, is the only candidate.
find_python() {
  local candidate candidates=(python3.13 python3.12 python3.11 python3)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
    then
      echo "$candidate"
      return
    fi
  done
  fail "${PYTHON:-python3}: no Python of version 3.11 to 3.13; install one, or set PYTHON=FILE"
}

# install WHAT: puts `-e WHAT` into .venv, unless that is what was last installed there.
install() {
  if [ ! -x .venv/bin/pip ]; then
    local python
    python=$(find_python) || exit $?
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
      fail "$python: has no venv; run: apt install python3-venv"
    echo "Making .venv with $("$python" --version)." >&2
    "$python" -m venv .venv
  fi
  local stamp=".venv/installed$1" wanted
  wanted=$(cat pyproject.toml setup.py constraints.txt)
  if [ "$wanted" != "$(cat "$stamp" 2>/dev/null)" ]; then
    echo "Installing $1 into .venv (a minute or so)." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$1"
    echo "$wanted" > "$stamp"
  fi
}
