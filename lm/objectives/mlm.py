"""Masked language modelling (BERT; Devlin et al. 2019, section 3.1), masked anew at every visit."""

from dataclasses import dataclass

import numpy as np

from lm.batch import Batch, Row
from lm.config import setting
from lm.errors import UserError
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('encoder',)


@dataclass(frozen=True)
class Options:
    """Shares of the tokens; the rest of the chosen ones is left as it is."""

    mask_rate: float = setting(0.15, "share of a row's tokens that are chosen to be predicted")
    mask_share: float = setting(0.8, 'share of the chosen that is replaced by the mask token')
    random_share: float = setting(0.1, 'share of the chosen that is replaced by a random token')

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            raise UserError(f'objective.options.mask_rate={self.mask_rate}: must be in (0, 1)')
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            raise UserError(
                f'objective.options.mask_share={self.mask_share}, random_share='
                f'{self.random_share}: must be shares whose sum is at most 1'
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
        """Chooses round(mask_rate x n) of the row's n ordinary tokens, at least one, and hides them.

        bos, eos and padding are never chosen.
        """
        special = np.isin(row.tokens, [*self.vocabulary.special_ids])
        candidates = np.flatnonzero(~special & (row.segment_ids > 0))
        count = min(len(candidates), max(1, round(self.options.mask_rate * len(candidates))))
        chosen = rng.choice(candidates, size=count, replace=False)
        tokens = row.tokens.copy()
        fate = rng.random(count)
        tokens[chosen[fate < self.options.mask_share]] = self.vocabulary.mask_id
        swapped = chosen[
            (fate >= self.options.mask_share)
            & (fate < self.options.mask_share + self.options.random_share)
        ]
        tokens[swapped] = self._random_tokens(rng, len(swapped))
        weights = np.zeros(self.row_len, np.float32)
        weights[chosen] = 1
        return Batch(tokens, row.segment_ids, row.positions, targets=row.tokens, loss_weights=weights)

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the chosen tokens."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """All that is not padding."""
        return int(np.count_nonzero(batch.segment_ids))

    def _random_tokens(self, rng: np.random.Generator, count: int) -> np.ndarray:
        special = self.vocabulary.special_ids
        ordinary = np.setdiff1d(np.arange(self.vocabulary.size, dtype=np.int32), [*special])
        return rng.choice(ordinary, size=count)


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> MaskedLM:
    """The objective for rows of `seq_len` tokens."""
    return MaskedLM(options, vocabulary, target_len=seq_len)
