"""Rows to batches, ahead of the step that needs them, through Grain."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from lm.batch import Batch, Row, stack

Example = Callable[[Row, np.random.Generator], Batch]
"""An objective's host half: one row, as the model reads it."""


@runtime_checkable
class Rows(Protocol):
    """An index of rows: of one source, or mixed."""

    def row(self, i: int) -> Row:
        """Row i, a pure function of i >= 0."""

    def padding(self) -> Row:
        """A row without a token."""


Number = TypeVar('Number', int, np.ndarray)

_ENDLESS = 2**62
_AHEAD = 2  # batches made ahead for each thread


def batches(
    rows: Rows,
    example: Example,
    *,
    batch_size: int,
    start_row: int,
    seed: int,
    stop_row: int | None = None,
    overfit_batches: int = 0,
    held: Sequence[int] | None = None,
    threads: int,
) -> Iterator[Batch]:
    """Batches of `batch_size` rows, from row `start_row` on.

    What is in a row, its corruption included, is a pure function of (seed, number of the row):
    neither where the iteration began nor the number of threads changes it.

    Args:
      rows: the packing index.
      example: makes a batch's row of a packed one; draws from the generator it is given.
      batch_size: rows of a batch.
      start_row: the first row: a resumed run gives the number of rows it has consumed.
      seed: of the corruption.
      stop_row: the row to stop before; the last batch is filled up with rows of padding that have
        no loss weight. None: endless.
      held: which rows of each batch to make, counted from its first; None: all of them.
      overfit_batches: k > 0 repeats the first k batches of the sequence, corruption and all.
      threads: that make batches; 0 makes them in the caller's.

    Yields:
      batches of NumPy arrays [batch_size, ...], or [len(held), ...]. Closing or dropping the
      iterator ends the threads.
    """
    import grain

    here = range(batch_size) if held is None else held

    def made(i: int) -> Batch:
        i = row_number(i, batch_size, overfit_batches)
        generator = np.random.default_rng([seed, i])
        if stop_row is not None and i >= stop_row:
            return _weightless(example(rows.padding(), generator))
        return example(rows.row(i), generator)

    def made_batch(j: int) -> Batch:
        first = start_row + j * batch_size
        return stack([made(first + i) for i in here])

    count = _ENDLESS
    if stop_row is not None:
        count = -(-max(stop_row - start_row, 0) // batch_size)
    # An element of Grain's is a whole batch: its own cost for each is that of making several rows.
    iterator = iter(
        grain.MapDataset.range(count)
        .map(made_batch)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads * _AHEAD)
        )
    )
    return _closing(iterator)


def row_number(i: Number, batch_size: int, overfit_batches: int) -> Number:
    """Which row comes i-th: row i, or with `overfit_batches` one of those that come again."""
    return i % (overfit_batches * batch_size) if overfit_batches else i


def _closing(iterator: Iterator[Batch]) -> Iterator[Batch]:
    """Ends Grain's threads with the iteration, however it ends."""
    try:
        yield from iterator
    finally:
        iterator.close()  # type: ignore[attr-defined]


def _weightless(batch: Batch) -> Batch:
    if batch.loss_weights is None:
        return batch
    return batch._replace(loss_weights=np.zeros_like(batch.loss_weights))
