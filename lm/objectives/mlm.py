"""Masked language modelling (BERT; Devlin et al. 2019, section 3.1), masked anew at every visit.

The rate is BERT's 15 %; Wettig et al. 2023 ("Should You Mask 15% in Masked Language Modeling?",
section 3) find 40 % better for large models, and 30 % is usual since. Whole words (the option
`whole_words`) are those of `Vocabulary.begins_word`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.batch import Batch, Row
from lm.config import require, setting
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import asked, lay
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('encoder',)


@dataclass(frozen=True)
class Options:
    """Shares of the tokens; the rest of the chosen ones is left as it is."""

    mask_rate: float = setting(0.15, 'share of the tokens of a row that are chosen to be predicted')
    mask_share: float = setting(0.8, 'share of the chosen that is replaced by the mask token')
    random_share: float = setting(0.1, 'share of the chosen that is replaced by a random token')
    whole_words: bool = setting(False, 'choose all tokens of a word or none')

    def __post_init__(self) -> None:
        require(
            0 < self.mask_rate < 1,
            f'objective.options.mask_rate={self.mask_rate}: must be in (0, 1)',
        )
        hidden = self.mask_share + self.random_share
        require(
            min(self.mask_share, self.random_share) >= 0 and hidden <= 1 + 1e-9,
            f'objective.options.mask_share={self.mask_share}, random_share={self.random_share}: '
            'must be shares whose sum is at most 1',
        )


@dataclass(frozen=True)
class MaskedLM:
    """Predicts chosen tokens of a row from all of the row (RoBERTa's dynamic masking)."""

    options: Options
    vocabulary: Vocabulary
    target_len: int
    overlap: int = 0
    boundaries: bool = True
    factorises: bool = False

    @property
    def row_len(self) -> int:
        """The model reads a row as long as the raw one."""
        return self.target_len

    @property
    def most_targets(self) -> int:
        """What `example` chooses of a full row; a whole word may be longer."""
        if self.options.whole_words:
            return self.target_len
        return max(1, round(self.options.mask_rate * self.target_len))

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Chooses round(mask_rate x n) of the row's n ordinary tokens, at least one.

        Special tokens and padding are never chosen. What the model reads in a chosen one's place
        is drawn for each on its own, so the shares of a row are binomial. Whole words are taken in
        a random order, each that still fits in the count: that may leave some of it over.
        """
        special = np.isin(row.tokens, [*self.vocabulary.special_ids])
        candidates = np.flatnonzero(~special & (row.segment_ids > 0))
        count = min(len(candidates), max(1, round(self.options.mask_rate * len(candidates))))
        if self.options.whole_words:
            chosen = self._of_whole_words(row, candidates, count, rng)
        else:
            chosen = rng.choice(candidates, size=count, replace=False)
        fate = rng.random(len(chosen))
        masked = fate < self.options.mask_share
        swapped = ~masked & (fate < self.options.mask_share + self.options.random_share)
        tokens = row.tokens.copy()
        assert self.vocabulary.mask_id is not None
        tokens[chosen[masked]] = self.vocabulary.mask_id
        tokens[chosen[swapped]] = rng.choice(self._ordinary, size=np.count_nonzero(swapped))
        weights = np.zeros(self.row_len, np.float32)
        weights[chosen] = 1
        return Batch(
            tokens, row.segment_ids, row.positions, targets=row.tokens, loss_weights=weights
        )

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the chosen tokens."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """All that is not padding."""
        return int(np.count_nonzero(batch.segment_ids))

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """A row for each token of the span, from the left: it and all behind it are masked.

        What stands around the span is seen, and with the masks how long it is.
        """
        special = self.vocabulary
        whole = np.concatenate([[special.bos_id], text, [special.eos_id]]).astype(np.int32)
        targets, segment_ids, positions = lay([whole], self.row_len, special.pad_id)
        rows = []
        for first in range(start + 1, stop + 1):
            tokens = targets.copy()
            tokens[first : stop + 1] = special.mask_id
            row = Batch(tokens, segment_ids, positions, targets=targets)
            rows.append(asked(row, first, 1))
        return rows

    def _of_whole_words(
        self, row: Row, candidates: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """At most `count` of the candidates, of whole words; the shortest word where none fits."""
        # A special token ends a word, and so does a segment's end.
        begins = self.vocabulary.begins_word(row.tokens[candidates])
        begins |= np.diff(candidates, prepend=-2) > 1
        begins |= row.positions[candidates] == 0
        words = np.split(candidates, np.flatnonzero(begins)[1:])
        if min(map(len, words)) > count:
            return min(words, key=len)
        chosen: list[np.ndarray] = []
        for word in rng.permutation(len(words)).tolist():
            if len(words[word]) <= count:
                chosen.append(words[word])
                count -= len(words[word])
            if count == 0:
                break
        return np.concatenate(chosen)

    @cached_property
    def _ordinary(self) -> np.ndarray:
        """The ids that a random token is drawn from."""
        every = np.arange(self.vocabulary.size, dtype=np.int32)
        return np.setdiff1d(every, [*self.vocabulary.special_ids])


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> MaskedLM:
    """The objective for rows of `seq_len` tokens.

    Raises:
      UserError: there is no mask id.
    """
    require(
        vocabulary.mask_id is not None,
        'objective.name=mlm: the tokenizer has no mask id and model.vocab_size leaves no room for '
        'one; raise model.vocab_size or leave it unset',
    )
    return MaskedLM(options, vocabulary, target_len=seq_len)
