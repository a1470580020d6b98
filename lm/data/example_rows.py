"""Rows that are an example each: what `PackedRows` is to text, of labelled text."""

import threading
from collections import OrderedDict
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from lm.batch import Row
from lm.data.packing import ordered
from lm.data.store import Store
from lm.errors import UserError
from lm.examples import Side

_KEPT_EPOCHS = 3


@runtime_checkable
class Measured(Protocol):
    """What rows know of the objective that reads them."""

    @property
    def truncates(self) -> bool:
        """Whether what does not fit in a row is cut off."""

    def places(self, lengths_NF: Int[np.ndarray, 'N F']) -> list[Side]:
        """What N examples take of each side of a row, and what there is.

        Args:
          lengths_NF: of the fields of each example.
        """


class ExampleRows:
    """Examples in an order drawn from (seed, epoch), any number of epochs of them.

    Row i is an example of the store: `tokens` are its fields one after another, `segment_ids` say
    which field a token is of, from 1 on. Positions count from 0 in each field.

    Attributes:
      row_len, stride: places of the model that a row takes, padding counted.
      rows_per_epoch: examples.
    """

    def __init__(self, store: Store, measured: Measured, row_len: int, seed: int, shuffle: bool):
        """
        Args:
          store: the examples.
          measured: knows what they take of a row.
          row_len: places of a row.
          seed: decides every order.
          shuffle: False takes them in the store's order.

        Raises:
          UserError: there is none, or one does not fit in a row and is not to be cut.
        """
        if store.documents == 0:
            raise UserError('data.source: one side of it has no examples; give more')
        assert store.fields is not None, 'the text was not prepared as examples'
        self.row_len = self.stride = row_len
        self.rows_per_epoch = store.documents
        self._store, self._seed, self._shuffle = store, seed, shuffle
        self._taken_N, self._cut_N = self._measured(measured)
        self._epochs: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def _measured(self, measured: Measured) -> tuple[np.ndarray, np.ndarray]:
        """Places that each example takes, and how many of them are cut off."""
        assert self._store.fields is not None
        taken_N = np.zeros(self._store.documents, np.int64)
        cut_N = np.zeros_like(taken_N)
        for setting, needed_N, room in measured.places(self._store.fields):
            over_N = np.maximum(needed_N - room, 0)
            if over_N.any() and not measured.truncates:
                first = int(np.flatnonzero(over_N)[0])
                raise UserError(
                    f'{setting}={room}: the example {self._store.name(first)} takes '
                    f'{int(needed_N[first])} places, and {int((over_N > 0).sum())} of '
                    f'{len(over_N)} do not fit; raise it to {int(needed_N.max())}'
                    f'{_remedy(measured)}'
                )
            taken_N += needed_N
            cut_N += over_N
        return taken_N, cut_N

    def row(self, i: int) -> Row:
        """Row i of the endless sequence of epochs, i >= 0."""
        return self.example(self.example_of(i))

    def example_of(self, i: int) -> int:
        """The number of the example that row i is."""
        number, r = divmod(i, self.rows_per_epoch)
        return int(self._order(number)[r])

    def example(self, number: int) -> Row:
        """An example by its number in the store."""
        assert self._store.fields is not None
        lengths_F = self._store.fields[number]
        tokens = self._store.read(number, 0, int(self._store.lengths[number]))
        return Row(
            tokens=np.asarray(tokens, np.int32),
            segment_ids=np.repeat(np.arange(1, len(lengths_F) + 1), lengths_F).astype(np.int32),
            positions=np.concatenate([np.arange(n) for n in lengths_F]).astype(np.int32),
            documents=np.full(len(tokens), number, np.int32),
        )

    def padding(self) -> Row:
        """The first example once more: it fills a batch up and counts nothing there."""
        return self.example(0)

    def accounting(self, start_row: int, stop_row: int) -> dict[str, Any]:
        """As `PackedRows.accounting`, of examples.

        `documents` are the records they were made of; `tokens` count special ones, labels not.
        """
        assert self._store.record_of is not None
        seen = np.zeros(self.rows_per_epoch, bool)
        tokens = cut = repeated = 0
        for number in range(start_row // self.rows_per_epoch, -(-stop_row // self.rows_per_epoch)):
            first = max(start_row - number * self.rows_per_epoch, 0)
            last = min(stop_row - number * self.rows_per_epoch, self.rows_per_epoch)
            here = self._order(number)[first:last]
            seen[here] = True
            taken = int(self._taken_N[here].sum())
            tokens += taken
            cut += int(self._cut_N[here].sum())
            repeated += taken if number > 0 else 0
        return {
            'rows': max(stop_row - start_row, 0),
            'epochs': (stop_row - start_row) / self.rows_per_epoch,
            'documents': len(np.unique(self._store.record_of[seen])),
            'empty_documents': 0,
            'tokens': tokens,
            'padded': 0,
            'repeated': repeated,
            'split_documents': 0,
            'truncated': cut,
            'dropped': 0,
        }

    def most_segments(self, start_row: int, stop_row: int) -> int:
        """What the model reads is one segment a row."""
        del start_row, stop_row
        return 1

    def _order(self, number: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(self.rows_per_epoch)
        with self._lock:
            if number not in self._epochs:
                self._epochs[number] = ordered(self._seed, number, 0, self.rows_per_epoch)
                if len(self._epochs) > _KEPT_EPOCHS:
                    self._epochs.popitem(last=False)
            return self._epochs[number]


def _remedy(measured: Measured) -> str:
    """The option of an objective that makes long examples fit, if it has one."""
    option = getattr(measured, 'FITTING_OPTION', '')
    return f', or set objective.options.{option}' if option else ''
