"""Attention by blocks of queries, of whose scores one is held at a time (Rabe & Staats 2021).

Right for every `Sight` of whole blocks, on every device. The backward pass computes a block's
scores anew, so of memory that grows with T x S a layer keeps none. Keys that no query of a group
of blocks sees are not read: of a causal model's scores three eighths.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lm.attention import masked
from lm.attention.kernel import BLOCK, has_blocks
from lm.attention.sight import Sight

GROUPS = 4
"""Loops over blocks, each compiled for the keys that its own blocks see."""


def serves(sight: Sight) -> bool:
    """Whether the queries are several whole blocks."""
    return has_blocks(sight.segments_BT.shape[1])


def attend(
    q_BTHK: Float[jax.Array, 'B T H K'],
    k_BSGK: Float[jax.Array, 'B S G K'],
    v_BSGK: Float[jax.Array, 'B S G K'],
    sight: Sight,
) -> Float[jax.Array, 'B T H K']:
    """As `masked.attend`."""
    # Of what a group reads nothing is kept but what all of them read.
    return jax.checkpoint(partial(_group_by_group, sight=sight))(q_BTHK, k_BSGK, v_BSGK)


def _group_by_group(
    q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: Sight
) -> jax.Array:
    length = q_BTHK.shape[1]
    group = -(-length // (GROUPS * BLOCK)) * BLOCK
    done = []
    for start in range(0, length, group):
        queries = slice(start, min(start + group, length))
        keys = sight.keys_of(queries)
        part = q_BTHK[:, queries], k_BSGK[:, keys], v_BSGK[:, keys]
        done.append(_block_by_block(*part, sight.cut(queries, keys)))
    return jnp.concatenate(done, axis=1)


def _block_by_block(
    q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: Sight
) -> jax.Array:
    """A loop: elsewhere XLA may hold the scores of several blocks, and of both passes."""

    @partial(jax.checkpoint, prevent_cse=False)
    def block(
        q_BtHK: jax.Array, segments_Bt: jax.Array, bias_HtS: jax.Array | None, shift: jax.Array
    ) -> jax.Array:
        seen = replace(sight, segments_BT=segments_Bt, bias_HTS=bias_HtS, shift=shift)
        return masked.attend(q_BtHK, k_BSGK, v_BSGK, seen)

    cut = (q_BTHK, sight.segments_BT, sight.bias_HTS)
    shifts = sight.shift + jnp.arange(0, q_BTHK.shape[1], BLOCK)
    blocks = jax.lax.map(lambda x: block(*x), (*jax.tree.map(_in_blocks, cut), shifts))
    return jnp.moveaxis(blocks, 0, 1).reshape(q_BTHK.shape)


def _in_blocks(x: jax.Array) -> jax.Array:
    """Its axis of queries, the second, as blocks, which come first."""
    cut = x.reshape(x.shape[0], -1, BLOCK, *x.shape[2:])
    return jnp.moveaxis(cut, 1, 0)
