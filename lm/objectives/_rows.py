"""Texts taken out of a packed row, and laid into one again."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, Integer

from lm.batch import Batch
from lm.vocabulary import Vocabulary

Pair = tuple[np.ndarray, np.ndarray]
"""What is given of one text, and what is to be said of it."""


def segments(segment_ids: Int[np.ndarray, ' R']) -> Integer[np.ndarray, 'k 2']:
    """Start and length of each segment of a row, in order."""
    changes = np.flatnonzero(segment_ids[1:] != segment_ids[:-1]) + 1
    bounds = np.concatenate([[0], changes, [len(segment_ids)]])
    there = segment_ids[bounds[:-1]] > 0
    return np.stack([bounds[:-1], np.diff(bounds)], axis=1)[there]


def lay(
    texts: Sequence[np.ndarray], length: int, fill: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts one after another in a row of `length`: tokens, segment ids, positions; int32.

    Behind the texts the tokens are `fill`, as a rule the padding id.

    Raises:
      ValueError: they do not fit.
    """
    filled = sum(map(len, texts))
    if filled > length:
        raise ValueError(f'{filled} tokens do not fit in a row of {length}')
    tokens = np.full(length, fill, np.int32)
    segment_ids = np.zeros(length, np.int32)
    positions = np.zeros(length, np.int32)
    place = 0
    for number, text in enumerate(texts, start=1):
        here = slice(place, place + len(text))
        tokens[here], segment_ids[here] = text, number
        positions[here] = np.arange(len(text))
        place += len(text)
    return tokens, segment_ids, positions


def two_sided(
    pairs: Sequence[Pair], seq_len: int, target_len: int, vocabulary: Vocabulary
) -> Batch:
    """What is given to the encoder, what is to be said to the decoder, every text a segment."""
    pad_id = vocabulary.pad_id
    answers, answer_ids, answer_positions = lay([said for _, said in pairs], target_len, pad_id)
    first = np.where(answer_ids > 0, vocabulary.start_id, pad_id)
    shifted = np.where(answer_positions == 0, first, np.roll(answers, 1)).astype(np.int32)
    return Batch(
        *lay([given for given, _ in pairs], seq_len, pad_id),
        shifted, answer_ids, answer_positions,
        answers, (answer_ids > 0).astype(np.float32),
    )  # fmt: skip


def one_sided(pairs: Sequence[Pair], seq_len: int, pad_id: int) -> Batch:
    """What is given as a prefix, and behind it what is to be said, every text a segment.

    A text of n tokens takes n - 1 places, for its last token is a target only.
    """
    texts = [np.concatenate(pair) for pair in pairs]
    tokens, segment_ids, positions = lay([text[:-1] for text in texts], seq_len, pad_id)
    given, _, _ = lay([np.full(len(t) - 1, len(p[0])) for t, p in zip(texts, pairs, strict=True)],
                      seq_len, 0)  # fmt: skip
    return Batch(
        tokens,
        segment_ids,
        positions,
        targets=lay([text[1:] for text in texts], seq_len, pad_id)[0],
        loss_weights=((segment_ids > 0) & (positions >= given - 1)).astype(np.float32),
        prefix=(segment_ids > 0) & (positions < given),
    )


def asked(batch: Batch, first: int, count: int) -> Batch:
    """The row with nothing to be said but `count` targets from place `first` on."""
    assert batch.targets is not None
    places = np.arange(len(batch.targets))
    counts = (places >= first) & (places < first + count)
    return batch._replace(loss_weights=counts.astype(np.float32))


def windows(text: np.ndarray, bos_id: int, length: int) -> Iterator[Pair]:
    """A text in stretches of `length`, to each of which the token before it is given, or bos."""
    before = np.append([bos_id], text[:-1]).astype(np.int32)
    for start in range(0, len(text), length):
        yield before[start : start + 1], text[start : start + length]


def sides(batch: Batch) -> list[Pair]:
    """The pairs of one row of a Batch: the inverse of `two_sided` and of `one_sided`."""
    own = np.asarray(batch.segment_ids)
    said = own if batch.decoder_segment_ids is None else np.asarray(batch.decoder_segment_ids)
    given = own > 0 if batch.prefix is None else np.asarray(batch.prefix)
    told = np.asarray(batch.loss_weights) > 0 if batch.decoder_tokens is None else said > 0
    return [
        (
            np.asarray(batch.tokens)[(own == number) & given],
            np.asarray(batch.targets)[(said == number) & told],
        )
        for number in range(1, int(np.max(own, initial=0)) + 1)
    ]
