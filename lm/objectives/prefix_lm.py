"""Prefix language modelling: the rest of a text from its beginning, which is seen both ways.

Raffel et al. 2020, sections 3.2.1 to 3.2.3, after Liu et al. 2018. Each segment of a packed row is
cut in two, at any place between two tokens with the same probability. A decoder reads both parts,
the first of them as a prefix. Of two sides the encoder reads the first and the decoder says the
second; as either may be nearly the whole row, both are as long, and half of them is padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lm.batch import Batch, Row
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import one_sided, segments, sides, two_sided, windows
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('decoder', 'encoder_decoder')
PREFIX_FAMILIES = ('decoder',)
"""Those whose models see a prefix both ways (`Batch.prefix`)."""


@dataclass(frozen=True)
class Options:
    """Prefix language modelling has no choices of its own."""


@dataclass(frozen=True)
class DecoderPrefixLM:
    """A causal decoder's rows, in which the targets of each segment begin behind its prefix.

    Rows overlap by one token, as in causal language modelling, so that both see the same ones.
    """

    vocabulary: Vocabulary
    target_len: int
    overlap: int = 1
    boundaries: bool = True
    factorises: bool = False

    @property
    def row_len(self) -> int:
        """One more than the model reads: inputs and targets are the row without its last, first."""
        return self.target_len + 1

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Inputs and targets shifted by one; targets count from each segment's cut on."""
        prefix = np.zeros(self.row_len, bool)
        for (start, _), cut in _cuts(row, rng):
            prefix[start : start + cut] = True
        inside = (row.segment_ids[1:] == row.segment_ids[:-1]) & (row.segment_ids[1:] > 0)
        return Batch(
            tokens=row.tokens[:-1],
            segment_ids=row.segment_ids[:-1],
            positions=row.positions[:-1],
            targets=row.tokens[1:],
            loss_weights=(inside & ~prefix[1:]).astype(np.float32),
            prefix=prefix[:-1],
        )

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the tokens behind the prefixes."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """All of a row but its first token, which the row before had."""
        return int(np.count_nonzero(np.asarray(batch.targets) != self.vocabulary.pad_id))

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """The span behind bos and all before it, seen both ways; what follows it is not seen."""
        given = np.append([self.vocabulary.bos_id], text[:start]).astype(np.int32)
        pair = (given, text[start:stop])
        return [one_sided([pair], self.target_len, self.vocabulary.pad_id)]

    def text_rows(self, text: np.ndarray) -> Iterator[Batch]:
        """Windows of `target_len` targets; the prefix is the shortest: the token before, or bos."""
        for pair in windows(text, self.vocabulary.bos_id, self.target_len):
            yield one_sided([pair], self.target_len, self.vocabulary.pad_id)


@dataclass(frozen=True)
class TwoSidedPrefixLM:
    """Beginnings for the encoder, the rest for the decoder; no token is added on either side."""

    vocabulary: Vocabulary
    target_len: int
    overlap: int = 0
    boundaries: bool = True
    factorises: bool = False

    @property
    def row_len(self) -> int:
        """One more than either side: the other one has at least one token."""
        return self.target_len + 1

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Both parts of each segment; one of a single token has no two and is left out."""
        pairs = [
            (row.tokens[start : start + cut], row.tokens[start + cut : start + length])
            for (start, length), cut in _cuts(row, rng)
            if length > 1
        ]
        return two_sided(pairs, self.target_len, self.target_len, self.vocabulary)

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the second parts."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """What either side holds."""
        both = (batch.segment_ids, batch.decoder_segment_ids)
        return sum(int(np.count_nonzero(np.asarray(ids))) for ids in both)

    def restore(self, batch: Batch) -> list[np.ndarray]:
        """The original tokens of each segment of one row of a Batch: the inverse of `example`."""
        return [np.concatenate(pair) for pair in sides(batch)]

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """The span as the second part; what follows it is on neither side."""
        pair = (np.append([self.vocabulary.bos_id], text[:start]), text[start:stop])
        return [two_sided([pair], self.target_len, self.target_len, self.vocabulary)]

    def text_rows(self, text: np.ndarray) -> Iterator[Batch]:
        """Windows of `target_len` targets; the encoder reads the token before each, or bos."""
        for pair in windows(text, self.vocabulary.bos_id, self.target_len):
            yield two_sided([pair], self.target_len, self.target_len, self.vocabulary)


def _cuts(row: Row, rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """Start and length of each segment, and the length of its prefix: 1 to length - 1, or 1."""
    found = segments(row.segment_ids)
    return list(zip(found, rng.integers(1, np.maximum(found[:, 1], 2)).tolist(), strict=True))


def build(
    options: Options, vocabulary: Vocabulary, seq_len: int, family: str
) -> DecoderPrefixLM | TwoSidedPrefixLM:
    """The objective for rows of `seq_len` inputs."""
    del options
    kind = DecoderPrefixLM if family == 'decoder' else TwoSidedPrefixLM
    return kind(vocabulary, target_len=seq_len)
