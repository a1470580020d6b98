"""Tokenised text on disk, read at random and never loaded whole."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

_CACHED_RECORDS = 1024


class Store:
    """One split of the prepared text. Any number of threads may read it.

    Attributes:
      documents: number of documents.
      tokens: number of ids in all of them, without bos and eos.
      text_bytes: UTF-8 bytes of the text they came from.
      lengths: int64 [documents], ids in each.
      fields: int64 [documents, F]: of examples the ids in each of their fields; else None.
      record_of: int64 [documents]: of examples the number of the record that each was made of, from
        0 on, never falling; else None.
    """

    def __init__(
        self,
        records: Any,
        lengths: np.ndarray,
        text_bytes: int,
        record_tokens: int,
        fields: np.ndarray | None = None,
        record_of: np.ndarray | None = None,
    ):
        """
        Args:
          records: random access to dicts of `name` and `tokens`, stretches of documents in order.
          lengths: int64 [documents].
          text_bytes: of this split.
          record_tokens: ids of every record but a document's last.
          fields: int64 [documents, F], or None.
          record_of: int64 [documents], or None.
        """
        self.lengths = lengths
        self.fields = fields
        self.record_of = record_of
        self.documents = len(lengths)
        self.tokens = int(lengths.sum())
        self.text_bytes = text_bytes
        self._records = records
        self._record_tokens = record_tokens
        per_document = np.maximum(1, -(-lengths // record_tokens))
        self._first_record = np.concatenate([[0], np.cumsum(per_document)])
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of_examples(cls, names: Sequence[str], examples: Sequence[Sequence[np.ndarray]]) -> 'Store':
        """A store in memory.

        Args:
          names: of the examples, which count as a record each.
          examples: the fields of each, int32.
        """
        fields = np.array([[len(field) for field in each] for each in examples], np.int64)
        lengths = fields.sum(1)
        records = [
            {'name': name.encode(), 'tokens': np.concatenate(each).astype(np.int32)}
            for name, each in zip(names, examples, strict=True)
        ]
        own = np.arange(len(records))
        return cls(records, lengths, 0, max(1, int(lengths.max())), fields, own)

    @property
    def num_records(self) -> int:
        """Records that the documents' lengths call for."""
        return int(self._first_record[-1])

    def name(self, document: SupportsIndex) -> str:
        """The name of a document, as its source gave it."""
        return bytes(self._records[int(self._first_record[document])]['name']).decode()

    def read(
        self, document: SupportsIndex, start: SupportsIndex, stop: SupportsIndex
    ) -> np.ndarray:
        """Ids `start` to `stop` of a document, int32 [stop - start]; both within its length."""
        start, stop = int(start), int(stop)
        if start >= stop:
            return np.empty(0, np.int32)
        size = self._record_tokens
        first = int(self._first_record[document])
        parts = [self._record(first + r) for r in range(start // size, (stop - 1) // size + 1)]
        tokens = parts[0] if len(parts) == 1 else np.concatenate(parts)
        offset = start // size * size
        return tokens[start - offset : stop - offset]

    def _record(self, number: int) -> np.ndarray:
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
        tokens = np.asarray(self._records[number]['tokens'], np.int32)
        tokens.setflags(write=False)
        with self._lock:
            self._cache[number] = tokens
            if len(self._cache) > _CACHED_RECORDS:
                self._cache.popitem(last=False)
        return tokens
