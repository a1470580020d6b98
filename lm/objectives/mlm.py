"""Masked language modelling (BERT; Devlin et al. 2019, section 3.1), masked anew at every visit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.batch import Batch, Row
from lm.config import require, setting
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('encoder',)


@dataclass(frozen=True)
class Options:
    """Shares of the tokens; the rest of the chosen ones is left as it is."""

    mask_rate: float = setting(0.15, 'share of the tokens of a row that are chosen to be predicted')
    mask_share: float = setting(0.8, 'share of the chosen that is replaced by the mask token')
    random_share: float = setting(0.1, 'share of the chosen that is replaced by a random token')

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

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Chooses round(mask_rate x n) of the row's n ordinary tokens, at least one.

        Special tokens and padding are never chosen. What the model reads in a chosen one's place
        is drawn for each on its own, so the shares of a row are binomial.
        """
        special = np.isin(row.tokens, [*self.vocabulary.special_ids])
        candidates = np.flatnonzero(~special & (row.segment_ids > 0))
        count = min(len(candidates), max(1, round(self.options.mask_rate * len(candidates))))
        chosen = rng.choice(candidates, size=count, replace=False)
        fate = rng.random(count)
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
