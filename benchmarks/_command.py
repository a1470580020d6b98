"""What every benchmark's command line does: a table on stderr, one JSON object on stdout."""

import sys
from collections.abc import Sequence
from functools import partial

from experiments import _command

run_command = partial(_command.run_command, folder='benchmarks')
"""As experiments have it; what runs prints its table, and may return None where it printed all."""


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be, on stderr; the first one to the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print('  '.join(cells), file=sys.stderr)
