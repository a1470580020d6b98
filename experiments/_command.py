"""What every experiment's command line does."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from lm.errors import UserError
from lm.flags import Flags
from lm.storage import require_disk

HELP = ('--help', '-h')


def own_folder(flags: Flags) -> Path:
    """`--workdir`, where an experiment's runs go.

    Raises:
      UserError: it is missing, or in a store: the runs share locks and files there.
    """
    folder = flags.required('workdir')
    require_disk('--workdir', folder)
    return Path(folder).expanduser()


def run_command(
    name: str,
    about: str | None,
    define_flags: Callable[[Flags], None],
    run: Callable[[Flags], dict[str, Any] | None],
    *,
    folder: str = 'experiments',
    argv: Sequence[str] | None = None,
) -> int:
    """Reads the flags, runs, and prints what came of it as one JSON object.

    Args:
      name: of the file.
      about: its docstring, which `--help` prints with the flags.
      define_flags: adds its flags.
      run: does it; what it returns is printed, unless it is None.
      folder: where the file is.
      argv: the words; None: this process's own.

    Returns:
      The exit status: 2 on a user's error, told in one line on stderr.
    """
    logging.set_verbosity(logging.ERROR)
    words = sys.argv[1:] if argv is None else list(argv)
    asked = [word for word in words if word not in HELP]
    flags = Flags(asked)
    try:
        define_flags(flags)
        if asked != words:
            print(f'{about}\n{flags.describe()}')
            return 0
        flags.parse()
        found = run(flags)
    except UserError as error:
        print(f'{folder}.{name}: {error}', file=sys.stderr)
        return 2
    if found is not None:
        print(json.dumps(found))
    return 0
