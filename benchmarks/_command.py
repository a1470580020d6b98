"""What every benchmark's command line does: a table on stderr, one JSON object on stdout."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from lm.errors import UserError
from lm.flags import Flags

HELP = ('--help', '-h')


def run_command(
    name: str,
    about: str | None,
    define_flags: Callable[[Flags], None],
    measure: Callable[[Flags], dict[str, Any] | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Reads the flags, measures, and prints what came of it.

    Args:
      name: of the benchmark's file.
      about: its docstring, which `--help` prints with the flags.
      define_flags: adds its flags.
      measure: does it, prints its table, and returns what stdout gets; None: it printed that too.
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
        found = measure(flags)
    except UserError as error:
        print(f'benchmarks.{name}: {error}', file=sys.stderr)
        return 2
    if found is not None:
        print(json.dumps(found))
    return 0


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be, on stderr; the first one to the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print('  '.join(cells), file=sys.stderr)
