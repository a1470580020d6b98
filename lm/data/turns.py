"""Whose turn it is: which source of a mixture each row comes from.

Rows are dealt out in blocks. What a block gives to each source is known from its number alone:
the weights' shares of all rows before it and of all up to its end, in whole rows. Within a block
turns are those of a fair schedule: the j-th of m turns of a source in a block of s rows comes
after (j - 1) s / m and not after j s / m rows, to whole rows. Such a schedule exists for any
shares (Baruah, Cohen, Plaxton and Varvel 1996, "Proportionate Progress"), and going by
the earliest deadline finds it. The seed decides between equal deadlines.

So up to any row a source has had its share to within one row, where the weights have a common
denominator of at most `EXACT_ROWS` (all with four decimals do); other weights are rounded where
a block ends: to within one row there, to within two between.
"""

import heapq
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

EXACT_ROWS = 1 << 16
"""Weights whose common denominator is at most this are kept to the row, without rounding."""
MOST_ROWS = 1 << 20
"""Rows of the longest block, and so the inverse of the smallest share."""

_BLOCK_ROWS = 1024
_ROUNDED_BLOCK_ROWS = 4096
_KEPT_BLOCKS = 3
_TURN_ORDER = 3  # packing has 0 to 2


class Turn(NamedTuple):
    """Where a row comes from.

    Attributes:
      source: its number.
      row: which row of that source.
    """

    source: int
    row: int


class _Block(NamedTuple):
    """A stretch of rows.

    Attributes:
      before: rows of each source before the block.
      sources: int32 [rows], whose turn each is.
      turns: int32 [rows], how many turns that source had in the block before.
    """

    before: tuple[int, ...]
    sources: np.ndarray
    turns: np.ndarray


class Turns:
    """The endless sequence of turns; a pure function of weights and seed, looked up by number.

    Attributes:
      shares: of all rows, by source; they add up to 1.
    """

    def __init__(self, weights: Sequence[Fraction], seed: int):
        """
        Args:
          weights: of each source, positive, of any sum; every share at least 1 / `MOST_ROWS`.
          seed: decides between turns that could come in either order.
        """
        whole = sum(weights)
        self.shares = tuple(weight / whole for weight in weights)
        self._seed = seed
        self._denominator = math.lcm(*(share.denominator for share in self.shares))
        self._numerators = [int(share * self._denominator) for share in self.shares]
        # At least a row of every source in a block: then none is ever taken back by rounding.
        least = -(-self._denominator // min(self._numerators))
        assert least <= MOST_ROWS, 'a share is too small'
        if self._denominator <= EXACT_ROWS:
            self._rows = self._denominator * -(-_BLOCK_ROWS // self._denominator)
        else:
            self._rows = max(_ROUNDED_BLOCK_ROWS, least)
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._lock = threading.Lock()

    def turn(self, i: int) -> Turn:
        """Where row i comes from, i >= 0."""
        number, r = divmod(i, self._rows)
        block = self._block(number)
        source = int(block.sources[r])
        return Turn(source, block.before[source] + int(block.turns[r]))

    def sources(self, rows: np.ndarray) -> np.ndarray:
        """int32, the source of each of the rows, int64."""
        numbers, places = np.divmod(rows, self._rows)
        found = np.empty(rows.shape, np.int32)
        for number in np.unique(numbers):
            here = numbers == number
            found[here] = self._block(int(number)).sources[places[here]]
        return found

    def before(self, i: int) -> tuple[int, ...]:
        """How many of the rows 0 to i - 1 come from each source."""
        number, r = divmod(i, self._rows)
        block = self._block(number)
        here = np.bincount(block.sources[:r], minlength=len(self.shares))
        return tuple(b + int(n) for b, n in zip(block.before, here, strict=True))

    def _block(self, number: int) -> _Block:
        with self._lock:
            if number not in self._blocks:
                self._blocks[number] = self._made(number)
                if len(self._blocks) > _KEPT_BLOCKS:
                    self._blocks.popitem(last=False)
            return self._blocks[number]

    def _made(self, number: int) -> _Block:
        before = self._rounded(number * self._rows)
        after = self._rounded((number + 1) * self._rows)
        counts = [b - a for a, b in zip(before, after, strict=True)]
        raw = np.random.PCG64([self._seed, number, _TURN_ORDER]).random_raw(self._rows)
        sources = fair_schedule(counts, np.asarray(raw, np.uint64))
        turns = np.empty(self._rows, np.int32)
        for source, count in enumerate(counts):
            turns[sources == source] = np.arange(count)
        return _Block(before, sources, turns)

    def _rounded(self, rows: int) -> tuple[int, ...]:
        """Shares of the first `rows` rows as whole numbers that add up: largest remainders."""
        parts = [divmod(n * rows, self._denominator) for n in self._numerators]
        left = rows - sum(whole for whole, _ in parts)
        ranked = sorted(range(len(parts)), key=lambda k: (-parts[k][1], k))
        up = set(ranked[:left])
        return tuple(whole + (k in up) for k, (whole, _) in enumerate(parts))


def fair_schedule(counts: Sequence[int], bits: np.ndarray) -> np.ndarray:
    """int32 [sum(counts)]: an order in which no source is ever a whole turn ahead or behind.

    Args:
      counts: turns of each source.
      bits: uint64, one a turn; of turns with equal deadlines that with the lowest comes first.
    """
    rows = sum(counts)
    sources = np.repeat(np.arange(len(counts)), counts)
    j = np.concatenate([np.arange(count) for count in counts])
    count = np.repeat(counts, counts)
    releases, deadlines = j * rows // count, -(-(j + 1) * rows // count)
    by_release = np.argsort(releases, kind='stable')
    coming = zip(
        releases[by_release].tolist(),
        deadlines[by_release].tolist(),
        bits[by_release].tolist(),
        sources[by_release].tolist(),
        strict=True,
    )
    order = np.empty(rows, np.int32)
    waiting: list[tuple[int, int, int]] = []
    upcoming = next(coming, None)
    for r in range(rows):
        while upcoming is not None and upcoming[0] <= r:
            heapq.heappush(waiting, upcoming[1:])
            upcoming = next(coming, None)
        order[r] = heapq.heappop(waiting)[2]
    return order
