"""T5 span corruption (Raffel et al. 2020, section 3.1.4 and figure 2), on packed rows.

Noise spans of a text are each replaced by one sentinel; the targets are the sentinels, each
followed by what it stands for, and eos. Both lengths are filled exactly: a row of n raw tokens
with k segments, N noise tokens and S spans makes n - N + S + k inputs (an eos a segment) and
N + S + k targets. N is the same for every row; a further segment costs one eos on each side, so
such a row has one span fewer and both lengths stay as they are.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.batch import Batch, Row
from lm.config import require, setting
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import asked, segments, sides, two_sided
from lm.objectives._sentinels import corrupt, noise_of, raw_tokens, restored, shares_of
from lm.objectives._spans import choose_segments, noise_spans
from lm.shapes import LogitsBTV
from lm.vocabulary import NUM_SENTINELS, Vocabulary

FAMILIES = ('encoder_decoder',)

SHORTEST_ROW = 2
"""One token to keep and one to hide."""


@dataclass(frozen=True)
class Options:
    """The defaults are T5's own values."""

    noise_rate: float = setting(0.15, 'share of the raw tokens that is noise')
    mean_span_length: float = setting(3.0, 'mean tokens of a noise span, in a row of one document')

    def __post_init__(self) -> None:
        require(
            0 < self.noise_rate < 1,
            f'objective.options.noise_rate={self.noise_rate}: must be in (0, 1)',
        )
        require(
            self.mean_span_length >= 1,
            f'objective.options.mean_span_length={self.mean_span_length}: must be at least 1',
        )
        require(
            self.noise_rate <= (1 - self.noise_rate) * self.mean_span_length,
            f'objective.options.noise_rate={self.noise_rate}: leaves too few tokens to put between '
            f'spans of mean_span_length={self.mean_span_length}; lower it or raise that',
        )


@dataclass(frozen=True)
class SpanCorruption:
    """Rows of `row_len` raw tokens become `seq_len` inputs and `target_len` targets."""

    options: Options
    vocabulary: Vocabulary
    seq_len: int
    overlap: int = 0
    boundaries: bool = False
    factorises: bool = False

    @cached_property
    def row_len(self) -> int:
        """The longest raw row whose inputs fit in `seq_len` (T5: 568 for 512)."""
        # No span takes less than the sentinel that stands for it.
        length = max(SHORTEST_ROW, self.seq_len - 1)
        while self._inputs_len(length + 1) <= self.seq_len:
            length += 1
        return length

    @property
    def noise_tokens(self) -> int:
        """N of a full row."""
        return self._noise(self.row_len)[0]

    @property
    def slots(self) -> int:
        """Places for sentinels and eos in a full row, on either side: S + 1."""
        return self._noise(self.row_len)[1] + 1

    @property
    def target_len(self) -> int:
        """Length of the targets."""
        return self.noise_tokens + self.slots

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Corrupts each segment of the row on its own.

        A segment of one token has nothing to hide a span behind, and at most `slots` // 2 segments
        can have both a sentinel and an eos: in a row of more (very short documents) so many are
        drawn, in proportion to their lengths. What is left out is in no field of the batch;
        `tokens_used` counts what is in it, so summary.json tells the rest as dropped.
        """
        starts, lengths = segments(row.segment_ids).T
        chosen = choose_segments(lengths, self.slots // 2, rng)
        noise, spans = shares_of(lengths[chosen], *self._noise(int(lengths[chosen].sum())), added=1)
        pairs = []
        for index, n, s in zip(chosen, noise, spans, strict=True):
            text = row.tokens[starts[index] : starts[index] + lengths[index]]
            drawn = noise_spans(len(text), int(n), int(s), rng)
            pairs.append(corrupt(text, drawn, self.vocabulary))
        return two_sided(pairs, self.seq_len, self.target_len, self.vocabulary)

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the targets, sentinels and eos included."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """Inputs and targets that are neither padding nor added here."""
        return sum(
            raw_tokens(np.asarray(tokens), np.asarray(ids) > 0, self.vocabulary)
            for tokens, ids in (
                (batch.tokens, batch.segment_ids),
                (batch.targets, batch.decoder_segment_ids),
            )
        )

    def restore(self, batch: Batch) -> list[np.ndarray]:
        """The original tokens of each segment of one row of a Batch: the inverse of `example`."""
        return [restored(pair, self.vocabulary) for pair in sides(batch)]

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """The span behind its sentinel; the encoder reads what is on both sides of it."""
        pair = corrupt(text, np.array([[start, stop]]), self.vocabulary)
        row = two_sided([pair], self.seq_len, self.target_len, self.vocabulary)
        return [asked(row, 1, stop - start)]

    def _noise(self, length: int) -> tuple[int, int]:
        return noise_of(length, self.options.noise_rate, self.options.mean_span_length)

    def _inputs_len(self, length: int) -> int:
        noise, spans = self._noise(length)
        return length - noise + spans + 1


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> SpanCorruption:
    """The objective for `seq_len` inputs.

    Raises:
      UserError: `seq_len` is too short for one span, or needs more sentinels than there are.
    """
    require(
        bool(vocabulary.sentinel_ids),
        'objective.name=span_corruption: the tokenizer has no sentinels (<extra_id_0> and on) and '
        f'model.vocab_size leaves no room for {NUM_SENTINELS}; raise it or leave it unset',
    )
    objective = SpanCorruption(options, vocabulary, seq_len)
    require(
        seq_len >= SHORTEST_ROW + 1,
        f'train.seq_len={seq_len}: span corruption needs at least {SHORTEST_ROW + 1}',
    )
    spans = objective.slots - 1
    require(
        spans <= len(vocabulary.sentinel_ids),
        f'train.seq_len={seq_len}: span corruption needs {spans} sentinels of '
        f'{len(vocabulary.sentinel_ids)}; raise objective.options.mean_span_length',
    )
    return objective
