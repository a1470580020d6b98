"""Rows of a mixture: each is a row of one source, taken by turns."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lm.batch import Row
from lm.data.example_rows import ExampleRows
from lm.data.packing import PackedRows
from lm.data.turns import Turns


class MixedRows:
    """Rows of several sources, any number of epochs of each; a pure function of their number.

    A source that has given all its rows gives them again, in another order: none ever stops. The
    n-th row that comes from a source is row n of that source alone.

    Attributes:
      sources: the rows of each source; all of one length and stride.
      row_len: R, tokens of a row.
      stride: tokens that a row adds to what was read before.
    """

    def __init__(self, sources: Sequence[PackedRows | ExampleRows], turns: Turns):
        self.sources = (*sources,)
        self.row_len, self.stride = sources[0].row_len, sources[0].stride
        self._turns = turns

    def row(self, i: int) -> Row:
        """Row i, i >= 0; its `documents` are numbers within its source."""
        source, row = self._turns.turn(i)
        return self.sources[source].row(row)

    def padding(self) -> Row:
        """A row without a token."""
        return self.sources[0].padding()

    def sources_of(self, rows: np.ndarray) -> np.ndarray:
        """int32, the number of the source that each of these rows (int64) comes from."""
        return self._turns.sources(rows)

    def most_segments(self, start_row: int, stop_row: int) -> int:
        """The most segments that any of rows `start_row` to `stop_row` has; padding is none."""
        ranges = zip(self._turns.before(start_row), self._turns.before(stop_row), strict=True)
        parts = zip(self.sources, ranges, strict=True)
        return max(rows.most_segments(*part) for rows, part in parts if part[0] < part[1])

    def accounting(self, start_row: int, stop_row: int) -> list[dict[str, Any]]:
        """`PackedRows.accounting` of each source's part in rows `start_row` to `stop_row`."""
        ranges = zip(self._turns.before(start_row), self._turns.before(stop_row), strict=True)
        return [rows.accounting(*part) for rows, part in zip(self.sources, ranges, strict=True)]
