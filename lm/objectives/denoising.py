"""BART's denoising: a whole text from its damaged copy (Lewis et al. 2020, section 2.2).

Of each segment of a packed row the sentences are put in a random order; then spans of it, those of
no token too, are each replaced by one mask. The decoder says the segment as it was. A bos and an
eos stay where they are. A sentence ends with a token that ends in `.`, `!`, `?` or their like (and
a closing mark), where the next begins a word: `Vocabulary.ends_sentence`.

The paper draws spans of Poisson(3) tokens until 30 % of a text are hidden. Here both numbers are
fixed, N = 30 % of the row's tokens and S = N / 3 spans, so that both sides of a batch are filled
exactly: n tokens make n - N + S inputs and n targets. The lengths are then multinomial, which is
what independent Poisson lengths are, given their sum.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.batch import Batch, Row
from lm.config import require, setting
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import Pair, asked, segments, sides, two_sided
from lm.objectives._spans import apportion, choose_segments
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('encoder_decoder',)


@dataclass(frozen=True)
class Options:
    """The defaults are BART's own values."""

    noise_rate: float = setting(0.3, 'share of the tokens that is hidden behind masks')
    mean_span_length: float = setting(3.0, 'mean tokens of a span that one mask stands for')
    permute_sentences: bool = setting(True, "put each document's sentences in a random order")

    def __post_init__(self) -> None:
        require(
            0 < self.noise_rate < 1,
            f'objective.options.noise_rate={self.noise_rate}: must be in (0, 1)',
        )
        require(
            self.mean_span_length >= 1,
            f'objective.options.mean_span_length={self.mean_span_length}: must be at least 1',
        )


@dataclass(frozen=True)
class Denoising:
    """Rows of `row_len` raw tokens become `seq_len` inputs and as many targets as they are."""

    options: Options
    vocabulary: Vocabulary
    seq_len: int
    overlap: int = 0
    boundaries: bool = True
    factorises: bool = False

    @cached_property
    def row_len(self) -> int:
        """The longest raw row whose inputs fit in `seq_len`."""
        length = max(1, self.seq_len)  # no mask stands for less than a token, in the mean
        while self._inputs_len(length + 1) <= self.seq_len:
            length += 1
        return length

    @property
    def target_len(self) -> int:
        """All of the raw row."""
        return self.row_len

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Damages each segment of the row on its own.

        Where there are more segments than spans, so many are drawn, in proportion to their tokens,
        and the others stay whole. Where a row of very short documents has too few tokens to hide,
        its last segments may not fit; `tokens_used` counts what does.
        """
        found = segments(row.segment_ids)
        ordinary = ~np.isin(row.tokens, [*self.vocabulary.special_ids])
        most = np.array([ordinary[start : start + length].sum() for start, length in found], int)
        noise, spans = self._shares(int(found[:, 1].sum()), most, rng)
        pairs: list[Pair] = []
        room = self.seq_len
        for (start, length), n, s in zip(found, noise.tolist(), spans.tolist(), strict=True):
            text = row.tokens[start : start + length]
            damaged = self._damaged(text, ordinary[start : start + length], n, s, rng)
            room -= len(damaged)
            if room < 0:
                break
            pairs.append((damaged, text))
        return two_sided(pairs, self.seq_len, self.target_len, self.vocabulary)

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the whole text, hidden or not."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """All of the targets."""
        return int(np.count_nonzero(np.asarray(batch.decoder_segment_ids)))

    def restore(self, batch: Batch) -> list[np.ndarray]:
        """The original tokens of each segment of one row of a Batch: the inverse of `example`."""
        return [text for _, text in sides(batch)]

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """The span within the text said anew; the encoder reads one mask in its place."""
        before, end = [self.vocabulary.bos_id], [self.vocabulary.eos_id]
        mask = [self.vocabulary.mask_id]
        damaged = np.concatenate([before, text[:start], mask, text[stop:], end]).astype(np.int32)
        whole = np.concatenate([before, text, end]).astype(np.int32)
        row = two_sided([(damaged, whole)], self.seq_len, self.target_len, self.vocabulary)
        return [asked(row, len(before) + start, stop - start)]

    def sentences(self, text: np.ndarray) -> list[np.ndarray]:
        """The sentences of a text without bos and eos, in order."""
        ends = self.vocabulary.ends_sentence(text[:-1]) & self.vocabulary.begins_word(text[1:])
        return np.split(text, np.flatnonzero(ends) + 1)

    def _noise(self, length: int) -> tuple[int, int]:
        """N and S of a row of `length` tokens."""
        noise = max(round(length * self.options.noise_rate), 1)
        return noise, max(round(noise / self.options.mean_span_length), 1)

    def _inputs_len(self, length: int) -> int:
        noise, spans = self._noise(length)
        return length - noise + spans

    def _shares(
        self, length: int, most: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Noise tokens and spans of each segment, of which at most `most` tokens can be hidden."""
        noise, spans = np.zeros_like(most), np.zeros_like(most)
        if most.any():
            noise_tokens, count = self._noise(length)
            chosen = choose_segments(most, count, rng, least=1)
            sizes = most[chosen]
            noise[chosen] = apportion(min(noise_tokens, int(sizes.sum())), sizes, most=sizes)
            spans[chosen] = apportion(count, noise[chosen], most=np.full_like(sizes, count))
        return noise, spans

    def _damaged(
        self,
        text: np.ndarray,
        ordinary: np.ndarray,
        noise: int,
        spans: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """A segment's inputs: its ordinary tokens permuted and masked between its special ones."""
        inner = text[ordinary]
        if self.options.permute_sentences and len(inner):
            parts = self.sentences(inner)
            inner = np.concatenate([parts[i] for i in rng.permutation(len(parts))])
        before = int(np.argmax(ordinary)) if ordinary.any() else len(text)
        filled = self._infilled(inner, noise, spans, rng) if spans else inner
        behind = text[before + len(inner) :]
        return np.concatenate([text[:before], filled, behind]).astype(np.int32)

    def _infilled(
        self, text: np.ndarray, noise: int, spans: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The text with `spans` spans of `noise` tokens, each replaced by a mask.

        Every order of the spans and the tokens that are kept is equally likely.
        """
        lengths = rng.multinomial(noise, np.full(spans, 1 / spans))
        kept = len(text) - noise
        is_span = np.zeros(kept + spans, bool)
        is_span[rng.choice(kept + spans, size=spans, replace=False)] = True
        width = np.ones(kept + spans, int)
        width[is_span] = lengths
        starts = np.cumsum(width) - width
        out = text[np.minimum(starts, len(text) - 1)]
        out[is_span] = self.vocabulary.mask_id
        return out


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> Denoising:
    """The objective for `seq_len` inputs.

    Raises:
      UserError: there is no mask id.
    """
    require(
        vocabulary.mask_id is not None,
        'objective.name=denoising: the tokenizer has no mask id and model.vocab_size leaves no '
        'room for one; raise model.vocab_size or leave it unset',
    )
    return Denoising(options, vocabulary, seq_len)
