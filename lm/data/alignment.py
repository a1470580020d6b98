"""Which characters of a text its ids stand for, where the text is encoded in parts or respelled."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

NO_SPANS = np.empty((0, 2), np.int32)
_NO_IDS = np.empty(0, np.int32)


def end_to_end(
    parts: Sequence[tuple[str, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """The ids and spans of a text from those of the parts that it was cut into.

    Args:
      parts: of each its text, int32 ids [n] and int32 spans [n, 2] in it; no spans stay none.
    """
    begins = np.cumsum([0, *(len(text) for text, _, _ in parts)])
    spans = [(s + begin).astype(np.int32) for (_, _, s), begin in zip(parts, begins, strict=False)]
    ids = np.concatenate([_NO_IDS, *(ids for _, ids, _ in parts)])
    return ids, np.concatenate([NO_SPANS, *spans])


class Origin(NamedTuple):
    """Where each character of a respelled text was in the text as it is.

    Attributes:
      begins_m, ends_m: of each of its m characters, from which one of the text and before which.
        One that was put in has both where it stands, so it is no character of the text.
    """

    begins_m: Int[np.ndarray, ' m']
    ends_m: Int[np.ndarray, ' m']

    @classmethod
    def same(cls, text: str) -> 'Origin':
        """Of a text that is not respelled."""
        begins_m = np.arange(len(text), dtype=np.int32)
        return cls(begins_m, begins_m + 1)

    @classmethod
    def respelled(cls, text: str, spellings: Mapping[str, str]) -> 'Origin':
        """Of a text in which some characters are spelled otherwise."""
        return cls.of_pieces(
            [(i, i + 1, len(spellings.get(character, ' '))) for i, character in enumerate(text)]
        )

    @classmethod
    def of_pieces(cls, pieces: Sequence[tuple[int, int, int]]) -> 'Origin':
        """Of (begin, end, characters that stand for these), one after another."""
        table_P3 = np.asarray(pieces, np.int32).reshape(-1, 3)
        begins_P, ends_P, counts_P = table_P3.T
        return cls(np.repeat(begins_P, counts_P), np.repeat(ends_P, counts_P))

    def of(self, spans_n2: Int[np.ndarray, 'n 2']) -> Int[np.ndarray, 'n 2']:
        """Spans of the respelled text as spans of the text, int32."""
        if len(self.begins_m) == 0:
            return np.zeros_like(spans_n2)
        begin_n, end_n = spans_n2.T
        last = len(self.begins_m) - 1
        from_n = np.where(
            begin_n > last, self.ends_m[last], self.begins_m[np.minimum(begin_n, last)]
        )
        before_n = np.where(end_n > begin_n, self.ends_m[np.maximum(end_n - 1, 0)], from_n)
        return np.stack([from_n, before_n], axis=1).astype(np.int32)
