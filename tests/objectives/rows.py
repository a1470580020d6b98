"""A small vocabulary, packed rows over it, and a store of documents in memory."""

from collections.abc import Iterable, Sequence

import numpy as np

from lm.batch import Batch, Row
from lm.data.store import Store
from lm.vocabulary import Vocabulary

SIZE = 100
SPACE = '\u2581'


def vocabulary(sentinels: int = 30, size: int = SIZE) -> Vocabulary:
    """Five usual ids, then sentinels, then three modes, then text."""
    first = 5 + sentinels
    modes = (first, first + 1, first + 2)
    return Vocabulary(size, 0, 1, 2, 3, 4, tuple(range(5, first)), modes, pieces)


def pieces(ids: Iterable[int]) -> list[str]:
    """Of every three ids one begins a word; of every seven one ends a sentence, or would."""
    return [f'{"" if i % 3 else SPACE}p{i}{"" if i % 7 else "."}' for i in ids]


VOCABULARY = vocabulary()
TEXT = np.array([i for i in range(4, SIZE) if i not in VOCABULARY.special_ids], np.int32)
"""Ids that raw text may hold."""


_NONE = np.empty(0, np.int32)


def packed(segments: Sequence[Sequence[int] | np.ndarray], row_len: int) -> Row:
    """A row of the given segments of ids, padded to `row_len`."""
    lengths = [len(segment) for segment in segments]
    filled = sum(lengths)
    row = Row(*(np.full(row_len, fill, np.int32) for fill in (VOCABULARY.pad_id, 0, 0, -1)))
    row.tokens[:filled] = np.concatenate([_NONE, *segments])
    row.segment_ids[:filled] = np.repeat(np.arange(len(lengths)) + 1, np.array(lengths, int))
    row.positions[:filled] = np.concatenate([_NONE, *map(np.arange, lengths)])
    row.documents[:filled] = row.segment_ids[:filled] - 1
    return row


def text_row(
    lengths: Sequence[int], row_len: int, boundaries: bool, seed: int = 0, distinct: bool = False
) -> Row:
    """A row of random text; its segments have bos and eos, counted in their lengths, if asked."""
    ids = np.random.default_rng(seed).choice(TEXT, sum(lengths), replace=not distinct)
    segments = np.split(ids, np.cumsum(lengths)[:-1])
    if boundaries:
        for segment in segments:
            segment[0], segment[-1] = VOCABULARY.bos_id, VOCABULARY.eos_id
    return packed(segments, row_len)


def store(lengths: Sequence[int], seed: int = 0) -> Store:
    """Documents of random text, held in memory."""
    rng = np.random.default_rng(seed)
    records = [{'name': b'', 'tokens': rng.choice(TEXT, length)} for length in lengths]
    return Store(records, np.array(lengths, np.int64), text_bytes=sum(lengths), record_tokens=1000)


def segment_alone(batch: Batch, segment: int) -> Batch:
    """One row of a Batch with nothing but one segment, moved to the start of each side."""

    def alone(x: np.ndarray | None, ids: np.ndarray) -> np.ndarray | None:
        if x is None:
            return None
        kept = np.asarray(x)[np.asarray(ids) == segment]
        return np.pad(kept, (0, len(ids) - len(kept)))

    own = batch.segment_ids
    other = own if batch.decoder_segment_ids is None else batch.decoder_segment_ids
    sides = [own] * 3 + [other] * 5 + [own] * 2
    return Batch(*(alone(x, ids) for x, ids in zip(batch, sides, strict=True)))
