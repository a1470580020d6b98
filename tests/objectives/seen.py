"""Which inputs each position's logits depend on, by the gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.batch import Batch
from lm.models.functional import Functional
from tests.models.tiny import perturbed
from tests.objectives.rows import SIZE


def seen(model: Functional, batch: Batch, side: str = 'tokens') -> np.ndarray:
    """bool [T, S]: whether the logits at place t depend on the token at place s of a side.

    The one row's tokens of that side are renumbered, so that each place has an embedding of its
    own; an output matrix tied to it is left out by reading the logits of other ids.
    """
    length = np.asarray(getattr(batch, side)).shape[1]
    others = slice(length, SIZE)
    elsewhere = {
        name: length + np.asarray(tokens) % (SIZE - length)
        for name in ('tokens', 'decoder_tokens')
        if (tokens := getattr(batch, name)) is not None
    }
    renumbered = batch._replace(**elsewhere | {side: np.arange(length, dtype=np.int32)[None]})
    params: dict[str, Any] = perturbed(model)
    table = params['embedding/tokens']
    weights = np.random.default_rng(0).standard_normal(SIZE - length).astype(np.float32)

    def read(rows_SD: jax.Array) -> jax.Array:
        changed = {**params, 'embedding/tokens': jnp.concatenate([rows_SD, table[length:]])}
        return model.apply(changed, renumbered)[0][:, others] @ weights

    gradient_TSD = np.asarray(jax.jit(jax.jacrev(read))(table[:length]))
    return np.abs(gradient_TSD).max(-1) > 0
