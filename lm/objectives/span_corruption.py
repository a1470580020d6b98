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
from lm.objectives._spans import apportion, choose_segments, noise_spans
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
        length = SHORTEST_ROW
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
        starts, lengths = _segments(row.segment_ids)
        chosen = choose_segments(lengths, self.slots // 2, rng)
        noise, spans = self._shares(lengths[chosen])
        inputs, targets = [], []
        for index, n, s in zip(chosen, noise, spans, strict=True):
            text = row.tokens[starts[index] : starts[index] + lengths[index]]
            corrupted, answer = self._corrupt(text, noise_spans(len(text), int(n), int(s), rng))
            inputs.append(corrupted)
            targets.append(answer)
        tokens, segment_ids, positions = _lay(inputs, self.seq_len, self.vocabulary.pad_id)
        answers, answer_ids, answer_positions = _lay(
            targets, self.target_len, self.vocabulary.pad_id
        )
        # T5 starts its decoder with the padding id.
        shifted = np.where(answer_positions == 0, self.vocabulary.pad_id, np.roll(answers, 1))
        return Batch(
            tokens, segment_ids, positions,
            shifted, answer_ids, answer_positions,
            answers, (answer_ids > 0).astype(np.float32),
        )  # fmt: skip

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the targets, sentinels and eos included."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """Inputs and targets that are neither padding nor added here."""
        added = [*self.vocabulary.sentinel_ids, self.vocabulary.eos_id]
        assert batch.targets is not None
        return sum(
            int(np.count_nonzero((np.asarray(ids) > 0) & ~np.isin(tokens, added)))
            for tokens, ids in (
                (batch.tokens, batch.segment_ids),
                (batch.targets, batch.decoder_segment_ids),
            )
        )

    def restore(self, batch: Batch) -> list[np.ndarray]:
        """The original tokens of each segment of one row of a Batch: the inverse of `example`."""
        assert batch.targets is not None and batch.decoder_segment_ids is not None
        texts = []
        for segment in range(1, int(np.max(batch.segment_ids, initial=0)) + 1):
            inputs = np.asarray(batch.tokens)[np.asarray(batch.segment_ids) == segment][:-1]
            answer = np.asarray(batch.targets)[np.asarray(batch.decoder_segment_ids) == segment]
            parts = np.split(answer[:-1], np.flatnonzero(np.isin(answer[:-1], self._sentinels)))
            spans = {int(part[0]): part[1:] for part in parts if len(part)}
            pieces = [spans.get(int(token), np.array([token])) for token in inputs]
            texts.append(np.concatenate(pieces) if pieces else np.array([], np.int32))
        return texts

    @property
    def _sentinels(self) -> np.ndarray:
        return np.asarray(self.vocabulary.sentinel_ids, np.int32)

    def _noise(self, length: int) -> tuple[int, int]:
        """N and S of a text of `length` tokens, rounded as T5 does; each span has a kept token."""
        noise = min(max(round(length * self.options.noise_rate), 1), length - 1)
        spans = max(round(noise / self.options.mean_span_length), 1)
        return noise, min(spans, length - noise)

    def _inputs_len(self, length: int) -> int:
        noise, spans = self._noise(length)
        return length - noise + spans + 1

    def _shares(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noise tokens and spans of each chosen segment; of a full row they fill both sides."""
        if len(lengths) == 0:
            return lengths, lengths
        segments = len(lengths)
        noise_tokens, spans = self._noise(int(lengths.sum()))
        noise = apportion(max(noise_tokens, segments), lengths, most=lengths - 1)
        spans = max(spans + 1 - segments, segments)
        # A span has at least one token, and at least one kept token before it.
        return noise, apportion(spans, noise, most=np.minimum(noise, lengths - noise))

    def _corrupt(self, text: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of one text; `noise` is [S, 2], start and end of each span."""
        inputs, targets, kept = [], [], 0
        for sentinel, (start, end) in zip(self._sentinels[: len(noise)], noise, strict=True):
            inputs += [text[kept:start], [sentinel]]
            targets += [[sentinel], text[start:end]]
            kept = end
        eos = [self.vocabulary.eos_id]
        return (
            np.concatenate([*inputs, text[kept:], eos]).astype(np.int32),
            np.concatenate([*targets, eos]).astype(np.int32),
        )


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


def _segments(segment_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of each segment of a row, in order."""
    ids, starts, lengths = np.unique(segment_ids, return_index=True, return_counts=True)
    return starts[ids > 0], lengths[ids > 0]


def _lay(
    texts: list[np.ndarray], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts one after another in a row of `length`: tokens, segment ids, positions."""
    tokens = np.full(length, pad_id, np.int32)
    segment_ids = np.zeros(length, np.int32)
    positions = np.zeros(length, np.int32)
    place = 0
    for number, text in enumerate(texts, start=1):
        here = slice(place, place + len(text))
        tokens[here], segment_ids[here] = text, number
        positions[here] = np.arange(len(text))
        place += len(text)
    assert place <= length, f'{place} tokens do not fit in a row of {length}'
    return tokens, segment_ids, positions
