"""Loss on held-out rows, and bits per byte of a text."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from lm.batch import Batch
from lm.errors import UserError
from lm.models.functional import Functional
from lm.objectives._objective import Objective, Sums
from lm.shapes import Params
from lm.vocabulary import Vocabulary


class Score(NamedTuple):
    """A summed loss.

    Attributes:
      nats: summed over the targets.
      targets: their number (weights summed).
    """

    nats: float
    targets: float

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nats / max(self.targets, 1)

    def bits_per_byte(self, text_bytes: int) -> float:
        """The whole text's bits over its UTF-8 bytes."""
        return self.nats / math.log(2) / max(text_bytes, 1)


def require_finite(nats: Float[np.ndarray, ' N'] | float) -> None:
    """Raises UserError where a log-likelihood is not finite: what comes of it means nothing."""
    wrong = int((~np.isfinite(nats)).sum())
    if wrong:
        raise UserError(
            f'precision.policy: {wrong} of {np.size(nats)} log-likelihoods are not finite; the '
            'model overflows in its number format (fp32 and bf16 reach further than fp16), or its '
            'parameters are damaged'
        )


Scorer = Callable[[Params, Batch], Sums]


def build_scorer(functional: Functional, objective: Objective) -> Scorer:
    """Jitted: parameters and a batch -> its sums, without dropout."""

    def score(params: Params, batch: Batch) -> Sums:
        return objective.loss(functional.apply(params, batch), batch)

    return jax.jit(score)


def score_batches(
    scorer: Scorer,
    params: Params,
    batches: Iterable[Batch],
    place: Callable[[Batch], Batch] = lambda batch: batch,
) -> Score:
    """The sums of all batches, added in float64 on the host."""
    nats = targets = 0.0
    for batch in batches:
        sums = jax.device_get(scorer(params, place(batch)))
        nats += float(sums.loss)
        targets += float(sums.weight)
    return Score(nats, targets)


def without_document_ends(batch: Batch, vocabulary: Vocabulary) -> Batch:
    """The batch with eos targets counting 0: a text's bytes hold none."""
    assert batch.targets is not None and batch.loss_weights is not None
    ends = np.asarray(batch.targets) == vocabulary.eos_id
    return batch._replace(loss_weights=np.where(ends, 0, batch.loss_weights).astype(np.float32))
