"""What a model gives a held-out span for its context: comparable across objectives.

Losses of objectives are not: they predict other tokens from other contexts. The log-likelihood of
the same span of the same text is asked of each in the form that it was trained in.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.batch import Batch, stack
from lm.errors import UserError
from lm.evaluation.heldout import require_finite
from lm.generation.language_model import LanguageModel
from lm.objectives._cross_entropy import cross_entropy
from lm.objectives._objective import Objective
from lm.shapes import Params


class Span(NamedTuple):
    """A span of a text.

    Attributes:
      text: int32 [n], ids without bos or eos.
      start, stop: its tokens, at least one.
    """

    text: Int[np.ndarray, ' n']
    start: int
    stop: int


def span_nats(
    model: LanguageModel, objective: Objective, spans: Sequence[Span], batch_size: int
) -> Float[np.ndarray, ' N']:
    """-log p(span | context) of each span, nats over all its tokens; float64.

    By the chain rule, each token given the ones before it; the context is what the objective shows
    of the text: what comes before the span, and to most of them what follows it.

    Args:
      model: trained with `objective`.
      objective: knows the form (`Objective.span_rows`).
      spans: of texts that fit in the objective's rows.
      batch_size: rows at once.

    Raises:
      UserError: a text or a span is too long for a row, or a likelihood is not finite.
    """
    functional = model.functional

    @jax.jit
    def nats(params: Params, batch: Batch) -> jax.Array:
        logits_BTV = functional.apply(params, batch)
        weights_BT = jnp.asarray(batch.loss_weights, jnp.float32)
        nats_BT = cross_entropy(logits_BTV, jnp.asarray(batch.targets))
        return jnp.sum(jnp.where(weights_BT > 0, nats_BT, 0), axis=1)

    totals = np.zeros(len(spans), np.float64)
    for batch, numbers in _batched(objective, spans, batch_size):
        row_nats = np.asarray(nats(model.params, batch), np.float64)
        np.add.at(totals, numbers, row_nats[: len(numbers)])
    require_finite(totals)
    return totals


def _batched(
    objective: Objective, spans: Sequence[Span], batch_size: int
) -> Iterator[tuple[Batch, list[int]]]:
    """Batches of one shape, and of which span each row is; the last is filled with copies."""
    rows: list[Batch] = []
    numbers: list[int] = []
    for number, span in enumerate(spans):
        try:
            asked = objective.span_rows(span.text, span.start, span.stop)
        except ValueError as error:
            raise UserError(
                f'span: {span.stop - span.start} of {len(span.text)} tokens: {error}; take a '
                'shorter text or span, or a longer train.seq_len'
            ) from None
        rows += asked
        numbers += [number] * len(asked)
    for first in range(0, len(rows), batch_size):
        here = rows[first : first + batch_size]
        filled = here + here[:1] * (batch_size - len(here))
        yield stack(filled), numbers[first : first + batch_size]
