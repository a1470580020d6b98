"""UL2: a mixture of seven denoisers, each announced by a mode token (Tay et al. 2022, section 3.1).

Which one a row gets is drawn, all with the same probability; table 1 has their rates and lengths.
R and X corrupt spans as T5 does, with the mode before each segment's inputs. S hides the end of
each segment, of a length drawn for the row, uniformly from 10 % to 40 %: a quarter in the mean.
Shapes are the same for all: a raw row is as long as fits for each of them, and what one leaves is
padding.

A decoder reads a segment's inputs as a prefix, seen both ways, and its targets behind them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.batch import Batch, Row
from lm.config import require
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import asked, one_sided, segments, sides, two_sided
from lm.objectives._sentinels import corrupt, noise_of, raw_tokens, restored, shares_of
from lm.objectives._spans import choose_segments, noise_spans
from lm.shapes import LogitsBTV
from lm.vocabulary import MODES, NUM_SENTINELS, Vocabulary

FAMILIES = ('decoder', 'encoder_decoder')
PREFIX_FAMILIES = ('decoder',)
"""Those whose models see a prefix both ways (`Batch.prefix`)."""

SHORTEST, LONGEST = 0.1, 0.4
"""Shares of a text that S hides."""
ADDED = 2
"""A segment's inputs have a mode and eos, whatever its spans; its targets have eos."""
SHORTEST_ROW = 2
"""One token to keep and one to hide."""


@dataclass(frozen=True)
class Options:
    """The mixture is the paper's own."""


@dataclass(frozen=True)
class Denoiser:
    """One of the mixture.

    Attributes:
      mode: its token, of `MODES`.
      noise_rate: share of the tokens that is noise.
      mean_span_length: mean tokens of a noise span; None: one span, at the end.
    """

    mode: str
    noise_rate: float
    mean_span_length: float | None

    def noise(self, length: int, rng: np.random.Generator) -> tuple[int, int]:
        """Noise tokens and spans of a text of `length` tokens."""
        if self.mean_span_length is not None:
            return noise_of(length, self.noise_rate, self.mean_span_length)
        return max(int(rng.uniform(SHORTEST, LONGEST) * length + 0.5), 1), 1

    def extremes(self, length: int) -> list[tuple[int, int]]:
        """The least and the most noise that it may draw, with the spans."""
        if self.mean_span_length is not None:
            return [noise_of(length, self.noise_rate, self.mean_span_length)]
        return [(max(int(share * length + 0.5), 1), 1) for share in (SHORTEST, LONGEST)]


DENOISERS = (
    Denoiser('[R]', 0.15, 3),
    Denoiser('[R]', 0.15, 8),
    Denoiser('[S]', 0.25, None),
    Denoiser('[X]', 0.5, 3),
    Denoiser('[X]', 0.5, 8),
    Denoiser('[X]', 0.15, 64),
    Denoiser('[X]', 0.5, 64),
)
SEQUENTIAL = DENOISERS[2]


@dataclass(frozen=True)
class UL2:
    """Rows of `row_len` raw tokens become `seq_len` inputs and `target_len` targets.

    Attributes:
      decoder_only: inputs and targets share one row of `seq_len`.
    """

    vocabulary: Vocabulary
    seq_len: int
    decoder_only: bool
    overlap: int = 0
    boundaries: bool = False
    factorises: bool = False

    @cached_property
    def row_len(self) -> int:
        """The longest raw row that fits whichever denoiser it gets."""
        # As many sentinels as fit between tokens that are kept, each of them twice.
        length = max(SHORTEST_ROW, (self.seq_len - ADDED) // 2)
        while self._fits(length + 1):
            length += 1
        return length

    @cached_property
    def target_len(self) -> int:
        """The most targets of any denoiser; of a decoder, the row."""
        if self.decoder_only:
            return self.seq_len
        return max(noise + spans + 1 for noise, spans in self._extremes(self.row_len))

    @property
    def most_spans(self) -> int:
        """Sentinels that one text may need."""
        return max(spans for _, spans in self._extremes(self.row_len))

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Corrupts each segment of the row on its own, all by the row's denoiser.

        As in span corruption, a segment of one token is left out, and of more segments than fit
        some are drawn; `tokens_used` counts what is in the batch. For an encoder, more than the
        denoiser's share is hidden where many segments leave no room for the rest.
        """
        denoiser = DENOISERS[rng.integers(len(DENOISERS))]
        starts, lengths = segments(row.segment_ids).T
        chosen = choose_segments(lengths, self._most_segments(denoiser), rng)
        noises, counts = self._shares(denoiser, lengths[chosen], rng)
        mode = self.vocabulary.mode_ids[MODES.index(denoiser.mode)]
        pairs = []
        for index, n, s in zip(chosen, noises.tolist(), counts.tolist(), strict=True):
            text = row.tokens[starts[index] : starts[index] + lengths[index]]
            spans = np.array([[len(text) - n, len(text)]])
            if denoiser.mean_span_length is not None:
                spans = noise_spans(len(text), n, s, rng)
            pairs.append(corrupt(text, spans, self.vocabulary, [mode]))
        if self.decoder_only:
            return one_sided(pairs, self.seq_len, self.vocabulary.pad_id)
        return two_sided(pairs, self.seq_len, self.target_len, self.vocabulary)

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the targets, sentinels and eos included."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """Inputs and targets that are neither padding nor added here."""
        given, said = batch.prefix, np.asarray(batch.loss_weights) > 0
        if batch.decoder_segment_ids is not None:
            given, said = batch.segment_ids, np.asarray(batch.decoder_segment_ids) > 0
        read = raw_tokens(np.asarray(batch.tokens), np.asarray(given) > 0, self.vocabulary)
        return read + raw_tokens(np.asarray(batch.targets), said, self.vocabulary)

    def restore(self, batch: Batch) -> list[np.ndarray]:
        """The original tokens of each segment of one row of a Batch: the inverse of `example`."""
        pairs = ((given[1:], said) for given, said in sides(batch))
        return [restored(pair, self.vocabulary) for pair in pairs]

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """The span behind its sentinel: in mode S at the text's end, elsewhere in mode R."""
        mode = self.vocabulary.mode_ids[MODES.index('[S]' if stop == len(text) else '[R]')]
        pair = corrupt(text, np.array([[start, stop]]), self.vocabulary, [mode])
        if self.decoder_only:
            row = one_sided([pair], self.seq_len, self.vocabulary.pad_id)
            # The last of what is given predicts the sentinel, the sentinel the span's first token.
            return [asked(row, len(pair[0]), stop - start)]
        row = two_sided([pair], self.seq_len, self.target_len, self.vocabulary)
        return [asked(row, 1, stop - start)]

    def text_rows(self, text: np.ndarray) -> Iterator[Batch]:
        """Stretches in mode S, each behind as much of what comes before it as goes into a row.

        Of a row S hides 10 % to 40 %: most here, so that there are few rows; at the text's
        beginning that is little, and its first token alone is asked for behind nothing.
        """
        start = 0
        while start < len(text):
            first, stop = self._stretch(start, len(text))
            yield from self.span_rows(text[first:stop], start - first, stop - first)
            start = stop

    def _stretch(self, start: int, end: int) -> tuple[int, int]:
        """What S hides from `start` on, and where a row begins that shows what is before it."""

        def row(hidden: int) -> int:
            return hidden + min(start, self.row_len - hidden)

        def bounds(length: int) -> tuple[int, int]:
            (least, _), (most, _) = SEQUENTIAL.extremes(length)
            return least, most

        hidden = 1
        while hidden < end - start and hidden < bounds(row(hidden + 1))[1]:
            hidden += 1
        length = row(hidden)
        while bounds(length)[0] > hidden:
            length -= 1
        return start + hidden - length, start + hidden

    def _shares(
        self, denoiser: Denoiser, lengths: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Noise tokens and spans of each chosen segment."""
        total, texts = int(lengths.sum()), len(lengths)
        noise, spans = denoiser.noise(total, rng)
        if not self.decoder_only:
            # Each text has at least three inputs that are not its own; what is hidden is none.
            noise = max(noise, total + (ADDED + 1) * texts - self.seq_len)
        return shares_of(lengths, noise, spans, ADDED)

    def _extremes(self, length: int) -> Iterator[tuple[int, int]]:
        for denoiser in DENOISERS:
            yield from denoiser.extremes(length)

    def _fits(self, length: int) -> bool:
        if self.decoder_only:
            # Both sides with eos and a mode, but the last token is no input.
            return all(
                length + 2 * spans + ADDED <= self.seq_len for _, spans in self._extremes(length)
            )
        return all(
            length - noise + spans + ADDED <= self.seq_len
            for noise, spans in self._extremes(length)
        )

    def _most_segments(self, denoiser: Denoiser) -> int:
        """How many segments of a full row fit, each with one span and at most `LONGEST` hidden."""
        noise = max(denoiser.extremes(self.row_len)[-1][0], int(LONGEST * self.row_len))
        if self.decoder_only:
            return (self.seq_len - self.row_len) // (2 + ADDED)
        inputs = (self.seq_len - (self.row_len - noise)) // (1 + ADDED)
        return min(inputs, (self.target_len - noise) // 2)


def build(options: Options, vocabulary: Vocabulary, seq_len: int, family: str) -> UL2:
    """The objective for `seq_len` inputs, or of a decoder for rows of `seq_len`.

    Raises:
      UserError: there are no modes or sentinels, too few of these, or `seq_len` is too short.
    """
    del options
    require(
        bool(vocabulary.sentinel_ids and vocabulary.mode_ids),
        'objective.name=ul2: the tokenizer has no sentinels (<extra_id_0> and on) or modes ([R] '
        f'and on) and model.vocab_size leaves no room for {NUM_SENTINELS + len(MODES)}; raise it '
        'or leave it unset',
    )
    objective = UL2(vocabulary, seq_len, decoder_only=family == 'decoder')
    least = 6 if objective.decoder_only else 4
    require(seq_len >= least, f'train.seq_len={seq_len}: ul2 needs at least {least}')
    spans = objective.most_spans
    require(
        spans <= len(vocabulary.sentinel_ids),
        f'train.seq_len={seq_len}: ul2 needs {spans} sentinels of {len(vocabulary.sentinel_ids)}; '
        'lower it',
    )
    return objective
