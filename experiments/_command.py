"""What every experiment's command line does."""

import json
import sys
from collections.abc import Callable
from typing import Any

from absl import logging

from lm.errors import UserError
from lm.flags import Flags

HELP = ('--help', '-h')


def run_command(
    name: str,
    about: str | None,
    define_flags: Callable[[Flags], None],
    run: Callable[[Flags], dict[str, Any] | None],
) -> int:
    """Reads the flags, runs, and prints what came of it as one JSON object.

    Args:
      name: of the experiment's file.
      about: its docstring, which `--help` prints with the flags.
      define_flags: adds its flags.
      run: does it; what it returns is printed, unless it is None.

    Returns:
      The exit status: 2 on a user's error, told in one line on stderr.
    """
    logging.set_verbosity(logging.ERROR)
    asked = [word for word in sys.argv[1:] if word not in HELP]
    flags = Flags(asked)
    define_flags(flags)
    if asked != sys.argv[1:]:
        print(f'{about}\n{flags.describe()}')
        return 0
    try:
        flags.parse()
        found = run(flags)
    except UserError as error:
        print(f'experiments.{name}: {error}', file=sys.stderr)
        return 2
    if found is not None:
        print(json.dumps(found))
    return 0
