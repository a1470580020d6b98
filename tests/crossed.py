"""Every combination of two lists, of which a part runs by default, the rest with the slow tests.

The default part is spread so that each entry of either list is in it: what only one of them breaks
is seen at once, and what only the two together break by `-m slow`.
"""

from collections.abc import Sequence
from typing import Any

import pytest


def crossed(rows: Sequence[Any], columns: Sequence[Any], every: int) -> list[Any]:
    """Parameters `(*row, *column)`; of the diagonals one in `every` runs by default.

    An entry that is no tuple stands for itself. `every` must not exceed the longer list.
    """
    assert every <= max(len(rows), len(columns))
    return [
        pytest.param(
            *_parts(row), *_parts(column), marks=[] if (i + j) % every == 0 else [pytest.mark.slow]
        )
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]


def _parts(entry: Any) -> tuple[Any, ...]:
    return entry if isinstance(entry, tuple) else (entry,)
