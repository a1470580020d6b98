"""The packing index: which tokens make up row i.

An epoch is one circle of tokens: every document as bos + text + eos, in an order drawn from
(seed, epoch), cut open at a place drawn from (seed, epoch). Rows are taken from it one after the
other, each `row_len - overlap` tokens on from the one before, and then shuffled among themselves.
Nothing is stored but the documents' lengths: a row is found by bisection, and is a pure function
of store, settings, seed and i.

With overlap 1 (causal models) a row's first token is the last of the row before, so that every
token is a target once: the circle is closed by its own first token. A document begins a new
segment, and so does the part of one that a row begins with; positions restart there.
"""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from lm.batch import Row
from lm.data.store import Store
from lm.errors import UserError
from lm.vocabulary import Vocabulary

_DOCUMENT_ORDER, _ROW_ORDER, _OFFSET = range(3)
_KEPT_EPOCHS = 3


class _Epoch(NamedTuple):
    """One epoch's order.

    Attributes:
      documents: int64 [documents], the documents with text, in turn.
      ends: int64 [documents], where each ends in the circle, bos and eos counted.
      rows: int64 [rows], which stretch of the circle each row of the epoch is.
      offset: where the circle is cut open.
    """

    documents: np.ndarray
    ends: np.ndarray
    rows: np.ndarray
    offset: int


class PackedRows:
    """Rows of `row_len` tokens, any number of epochs of them.

    Attributes:
      row_len: R, tokens of a row.
      stride: tokens from one row's beginning to the next one's; what a row adds to the epoch.
      rows_per_epoch: rows that hold every token of the store once, but for the overlap.
    """

    def __init__(
        self,
        store: Store,
        vocabulary: Vocabulary,
        row_len: int,
        overlap: int,
        seed: int,
        shuffle: bool,
        boundaries: bool = True,
    ):
        """
        Args:
          store: the tokenised documents.
          vocabulary: its bos, eos and pad.
          row_len: tokens of a row.
          overlap: tokens that a row repeats of the one before, as context: 1 where each token is
            predicted from the one before it, else 0.
          seed: decides every order.
          shuffle: False takes documents and rows in the store's order, from its beginning.
          boundaries: put a bos before and an eos after each document.

        Raises:
          UserError: there is no token, or a row is no longer than the overlap.
        """
        if row_len <= overlap:
            raise UserError(f'train.seq_len={row_len - overlap}: must be at least 1')
        if store.tokens == 0:
            raise UserError('data.source: one side of it has no tokens; give more text')
        self.row_len = row_len
        self._store = store
        self._vocabulary = vocabulary
        self.stride = row_len - overlap
        self._overlap = overlap
        self._seed = seed
        self._shuffle = shuffle
        self._filled = np.flatnonzero(store.lengths)
        self._specials = 2 if boundaries else 0
        self._circle = store.tokens + self._specials * len(self._filled)
        self._length = self._circle + (overlap if shuffle else 0)
        self.rows_per_epoch = max(1, -(-(self._length - overlap) // self.stride))
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, i: int) -> Row:
        """Row i of the endless sequence of epochs, i >= 0."""
        number, r = divmod(i, self.rows_per_epoch)
        epoch = self._epoch(number)
        start, stop = self._bounds(int(epoch.rows[r]))
        row = self.padding()
        filled, segment = 0, 0
        while start < stop:
            place = (start + epoch.offset) % self._circle
            turn = int(np.searchsorted(epoch.ends, place, side='right'))
            document = int(epoch.documents[turn])
            size = int(self._store.lengths[document]) + self._specials
            begin = place - (int(epoch.ends[turn]) - size)
            count = min(size - begin, stop - start)
            here = slice(filled, filled + count)
            segment += 1
            row.tokens[here] = self._read(document, begin, begin + count)
            row.segment_ids[here] = segment
            row.positions[here] = np.arange(count)
            row.documents[here] = document
            filled += count
            start += count
        return row

    def padding(self) -> Row:
        """A row without a token."""
        return Row(
            tokens=np.full(self.row_len, self._vocabulary.pad_id, np.int32),
            segment_ids=np.zeros(self.row_len, np.int32),
            positions=np.zeros(self.row_len, np.int32),
            documents=np.full(self.row_len, -1, np.int32),
        )

    def accounting(self, start_row: int, stop_row: int) -> dict[str, Any]:
        """What rows `start_row` to `stop_row` hold.

        `tokens` counts ids with bos and eos, the overlap once; `repeated` are those read after the
        first epoch; `documents` how many different documents; `split_documents` how often a
        document went on in another row; `padded` positions without a token. Packing truncates and
        drops nothing; documents without a token (`empty_documents`) have no place in a row.
        """
        per_epoch = self.rows_per_epoch
        tokens = padded = repeated = splits = 0
        seen = np.zeros(self._store.documents, bool)
        epoch = start_row // per_epoch
        while epoch * per_epoch < stop_row:
            first = max(start_row - epoch * per_epoch, 0)
            last = min(stop_row - epoch * per_epoch, per_epoch)
            here = self._counted(epoch, first, last, seen)
            tokens += here['tokens']
            padded += here['padded']
            splits += here['splits']
            repeated += here['tokens'] if epoch > 0 else 0
            epoch += 1
        return {
            'rows': max(stop_row - start_row, 0),
            'epochs': (stop_row - start_row) / per_epoch,
            'documents': int(seen.sum()),
            'empty_documents': self._store.documents - len(self._filled),
            'tokens': tokens,
            'padded': padded,
            'repeated': repeated,
            'split_documents': splits,
            'truncated': 0,
            'dropped': 0,
        }

    def most_segments(self, start_row: int, stop_row: int) -> int:
        """The most segments that any of rows `start_row` to `stop_row` has; padding is none."""
        per_epoch, most = self.rows_per_epoch, 0
        for number in range(start_row // per_epoch, -(-stop_row // per_epoch)):
            epoch = self._epoch(number)
            first = max(start_row - number * per_epoch, 0)
            last = min(stop_row - number * per_epoch, per_epoch)
            starts = epoch.rows[first:last] * self.stride
            stops = np.minimum(starts + self.row_len, self._length)
            turns_2R = self._turns_of(epoch, np.stack([starts, stops - 1]))
            most = max(most, int((turns_2R[1] - turns_2R[0]).max()) + 1)
        return most

    def _turns_of(self, epoch: _Epoch, places: np.ndarray) -> np.ndarray:
        """Which document, counted on round after round, holds each place behind the cut."""
        rounds, place = np.divmod(places + epoch.offset, self._circle)
        return rounds * len(epoch.ends) + np.searchsorted(epoch.ends, place, side='right')

    def _counted(self, number: int, first: int, last: int, seen: np.ndarray) -> dict[str, int]:
        """Counts over rows `first` to `last` of one epoch; marks their documents in `seen`."""
        epoch = self._epoch(number)
        starts = epoch.rows[first:last] * self.stride
        stops = np.minimum(starts + self.row_len, self._length)
        held = stops - starts
        # The overlap at a row's start is counted in the row that ends with it. In a closed circle
        # every stretch has one before it; in the store's own order the first has none.
        first_of_all = np.logical_and(starts == 0, not self._shuffle)
        fresh = held - np.where(first_of_all, 0, self._overlap)
        first_place, last_place = (np.stack([starts, stops - 1]) + epoch.offset) % self._circle
        begins = np.searchsorted(epoch.ends, first_place, side='right')
        ends = np.searchsorted(epoch.ends, last_place, side='right')
        wraps = (first_place > last_place) | (held > self._circle)
        seen[epoch.documents[_covered(begins, ends, wraps, len(epoch.ends))]] = True
        cuts = (np.minimum(stops, self._circle) + epoch.offset) % self._circle
        split = ~np.isin(cuts, epoch.ends % self._circle)
        return {
            'tokens': int(fresh.sum()),
            'padded': int((self.row_len - held).sum()),
            'splits': int(split.sum()),
        }

    def _bounds(self, stretch: int) -> tuple[int, int]:
        """Where a stretch begins and ends, counted from the cut in the circle."""
        start = stretch * self.stride
        return start, min(start + self.row_len, self._length)

    def _read(self, document: int, begin: int, end: int) -> np.ndarray:
        """Ids `begin` to `end` of a document, its bos and eos counted if it has them."""
        length = int(self._store.lengths[document])
        if not self._specials:
            return self._store.read(document, begin, end)
        text = self._store.read(document, max(begin - 1, 0), min(end - 1, length))
        bos = [self._vocabulary.bos_id] if begin == 0 else []
        eos = [self._vocabulary.eos_id] if end == length + self._specials else []
        return np.concatenate([np.asarray(bos, np.int32), text, np.asarray(eos, np.int32)])

    def _epoch(self, number: int) -> _Epoch:
        with self._lock:
            if number not in self._epochs:
                self._epochs[number] = self._drawn(number)
                if len(self._epochs) > _KEPT_EPOCHS:
                    self._epochs.popitem(last=False)
            return self._epochs[number]

    def _drawn(self, number: int) -> _Epoch:
        documents, rows, offset = self._filled, np.arange(self.rows_per_epoch), 0
        if self._shuffle:
            documents = documents[self._order(number, _DOCUMENT_ORDER, len(documents))]
            rows = rows[self._order(number, _ROW_ORDER, len(rows))]
            offset = int(self._bits(number, _OFFSET, 1)[0] % np.uint64(self._circle))
        ends = np.cumsum(self._store.lengths[documents] + self._specials)
        return _Epoch(documents, ends, rows, offset)

    def _order(self, number: int, purpose: int, size: int) -> np.ndarray:
        return ordered(self._seed, number, purpose, size)

    def _bits(self, number: int, purpose: int, size: int) -> np.ndarray:
        return _bits(self._seed, number, purpose, size)


def ordered(seed: int, epoch: int, purpose: int, size: int) -> np.ndarray:
    """int64 [size]: an order of that many things, drawn anew in each epoch for each purpose."""
    return np.argsort(_bits(seed, epoch, purpose, size), kind='stable')


def _bits(seed: int, epoch: int, purpose: int, size: int) -> np.ndarray:
    """uint64 [size]: raw bits, whose stream NumPy keeps; its shuffles may change with versions."""
    raw = np.random.PCG64([seed, epoch, purpose]).random_raw(size)
    return np.asarray(raw, np.uint64)


def _covered(begins: np.ndarray, ends: np.ndarray, wraps: np.ndarray, size: int) -> np.ndarray:
    """bool [size]: what any of the inclusive ranges holds; a wrapping one goes round the end."""
    changes = np.zeros(size + 1, np.int64)
    np.add.at(changes, begins, 1)
    np.add.at(changes, ends + 1, -1)
    changes[0] += int(wraps.sum())
    return np.asarray(np.cumsum(changes)[:size] > 0)
