"""A model's own forward pass, with the weights of every attention kept."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lm.attention.sight import Sight
from lm.batch import Batch
from lm.generation.language_model import Forward
from lm.layout import Layout
from lm.models.functional import Functional
from lm.shapes import Params

Kind: TypeAlias = Literal['encoder', 'decoder', 'cross']
"""Self-attention of the encoder, of the decoder, and the decoder's of the encoder's states."""
KINDS: tuple[Kind, ...] = ('encoder', 'decoder', 'cross')

Weights: TypeAlias = dict[Kind, list[Float[jax.Array, 'B H T S']]]


class Recording(Layout):
    """One device, which keeps the weights of each attention, layer after layer.

    What is kept is of one trace: of layers that are run one by one.

    Attributes:
      weights: fp32, of rows' sides by kind, in the order in which they were asked for.
    """

    def __init__(self) -> None:
        self.weights: Weights = {}

    def seen(
        self, q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: Sight
    ) -> jax.Array:
        """As of `Layout`."""
        kind: Kind = 'decoder' if sight.causal else 'encoder' if sight.own_keys else 'cross'
        attend = partial(super().seen, q_BTHK, k_BSGK, sight=sight)
        self.weights.setdefault(kind, []).append(_weights(attend, k_BSGK))
        return attend(v_BSGK)


def _weights(attend: partial[jax.Array], k_BSGK: jax.Array) -> Float[jax.Array, 'B H T S']:
    """The weights by which attention takes the mean of values, read off the attention itself.

    Of values that are a row of the identity each, that mean is the row of weights. Values are K
    wide, so the identity is given K columns at a time.
    """
    keys, width = k_BSGK.shape[1], k_BSGK.shape[3]
    blocks = -(-keys // width)
    identity_SNK = jnp.eye(keys, blocks * width, dtype=k_BSGK.dtype).reshape(keys, blocks, width)

    def of_block(identity_SK: jax.Array) -> jax.Array:
        return attend(jnp.broadcast_to(identity_SK[None, :, None], k_BSGK.shape))

    weights_NBTHK = jax.vmap(of_block, in_axes=1)(identity_SNK)
    _, rows, length, heads, _ = weights_NBTHK.shape
    weights_BHTNK = jnp.transpose(weights_NBTHK, (1, 3, 2, 0, 4)).astype(jnp.float32)
    return weights_BHTNK.reshape(rows, heads, length, blocks * width)[..., :keys]


def recorded(
    functional: Functional, params: Params, batch: Batch, layers: Sequence[int] | None = None
) -> dict[Kind, Float[jax.Array, 'B L H T S']]:
    """The softmax weights of every attention in a forward pass without dropout.

    Args:
      functional: the model, one of `lm.models.model.Model`.
      params: its parameters.
      batch: what it reads; of two sides, both.
      layers: numbers of the layers that are kept, from 0; None: all.

    Returns:
      fp32, by kind; a row of padding has whatever the kernel makes of it. A kind that there is none
      of is no entry: a recurrent decoder attends to an encoder, if to anything.
    """
    kept = tuple(range(functional.config.num_layers) if layers is None else layers)
    found = _recorded(params, batch, forward=Forward(functional), layers=kept)
    return {kind: found[kind] for kind in KINDS if kind in found}


@partial(jax.jit, static_argnames=('forward', 'layers'))
def _recorded(
    params: Params, batch: Batch, *, forward: Forward, layers: tuple[int, ...]
) -> dict[Kind, jax.Array]:
    layout = Recording()
    forward.functional.layer_by_layer().on(layout).hidden(params, batch)
    return {
        kind: jnp.stack([of_layer[i] for i in layers], axis=1)
        for kind, of_layer in layout.weights.items()
    }
