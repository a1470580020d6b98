"""A block of queries and the keys that it reads: what it sees, and the gradients.

Factors of products lie as XLA:CPU multiplies them fastest (docs/LOG.md): the contracted axis is
the one before the last of the right factor, and of what makes scores of the left one too.

Letters beside those of a model's arrays: N of blocks, t of a block's queries, R of the H / G heads
that share keys, and M of these times those.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lm.arithmetic import Arithmetic
from lm.attention.bias import over_rows
from lm.attention.kernel import BLOCK
from lm.attention.sight import Sight

HIDDEN = -1e30
"""In place of the score of a key that is not seen."""


class Sums(NamedTuple):
    """Of a softmax, fp32.

    Attributes:
      largest_BGM: a query's largest score.
      total_BGM: the sum of the weights, of which that of the largest score is 1.
    """

    largest_BGM: jax.Array
    total_BGM: jax.Array


class Gradients(NamedTuple):
    """fp32; of queries and keys without the factor on the scores.

    Attributes:
      q_BGMK, k_BGKS, v_BGKS: of queries, keys and values.
      bias_HtS: None where there is no bias.
    """

    q_BGMK: jax.Array
    k_BGKS: jax.Array
    v_BGKS: jax.Array
    bias_HtS: jax.Array | None


def seen(
    arithmetic: Arithmetic, q_BGKM: jax.Array, k_BGKS: jax.Array, v_BGSK: jax.Array, sight: Sight
) -> tuple[jax.Array, Sums]:
    """What the queries see, fp32 [B, G, M, K].

    Args:
      arithmetic: of products; sums are fp32.
      q_BGKM, k_BGKS, v_BGSK: fp32 or bf16.
      sight: of these queries and keys.
    """
    scores_BGMS = _scores(arithmetic, q_BGKM, k_BGKS, sight)
    largest_BGM = scores_BGMS.max(axis=-1)
    weights_BGMS = jnp.exp(scores_BGMS - largest_BGM[..., None])
    total_BGM = weights_BGMS.sum(axis=-1)
    seen_BGMK = arithmetic.product('BGMS,BGSK->BGMK', weights_BGMS.astype(v_BGSK.dtype), v_BGSK)
    # Behind a barrier, else XLA has the product write another order, and turns the weights for it.
    seen_BGMK = jax.lax.optimization_barrier(seen_BGMK) / total_BGM[..., None]
    return seen_BGMK, Sums(largest_BGM, total_BGM)


def gradients(
    arithmetic: Arithmetic,
    q_BGKM: jax.Array,
    k_BGKS: jax.Array,
    k_BGSK: jax.Array,
    v_BGKS: jax.Array,
    sight: Sight,
    g_BGKM: jax.Array,
    largest_BGM: jax.Array,
    mean_BGM: jax.Array,
) -> Gradients:
    """Those of a block, whose weights are computed anew and left undivided by their sum.

    Args:
      arithmetic, q_BGKM, sight: as of `seen`.
      k_BGKS, k_BGSK, v_BGKS: keys, in the orders of the two products that take them, and values.
      g_BGKM: the gradient of what the queries saw, over the sum of their weights.
      largest_BGM: the queries' largest scores.
      mean_BGM: the product of `g_BGKM` with what a query saw: the mean, by weight, of what the
        weights of its keys get, over the sum of the weights.
    """
    scores_BGMS = _scores(arithmetic, q_BGKM, k_BGKS, sight)
    weights_BGMS = jnp.exp(scores_BGMS - largest_BGM[..., None])
    of_weights_BGMS = arithmetic.product('BGKM,BGKS->BGMS', g_BGKM, v_BGKS)
    of_scores_BGMS = weights_BGMS * (of_weights_BGMS - mean_BGM[..., None])
    # A query that sees no key weighs all alike, whatever their scores.
    of_scores_BGMS = _hiding(sight, of_scores_BGMS, 0)
    bias_HtS = None
    if sight.bias_HTS is not None:
        bias_HtS = _of_bias(of_scores_BGMS, len(sight.bias_HTS))
    weights_BGMS, of_scores_BGMS = (x.astype(v_BGKS.dtype) for x in (weights_BGMS, of_scores_BGMS))
    return Gradients(
        arithmetic.product('BGMS,BGSK->BGMK', of_scores_BGMS, k_BGSK),
        arithmetic.product('BGKM,BGMS->BGKS', q_BGKM, of_scores_BGMS),
        arithmetic.product('BGKM,BGMS->BGKS', g_BGKM, weights_BGMS),
        bias_HtS,
    )


def _scores(
    arithmetic: Arithmetic, q_BGKM: jax.Array, k_BGKS: jax.Array, sight: Sight
) -> jax.Array:
    """fp32 [B, G, M, S]."""
    scores_BGMS = sight.scale * arithmetic.product('BGKM,BGKS->BGMS', q_BGKM, k_BGKS)
    if sight.bias_HTS is not None:
        scores_BGRtS = _unfolded(scores_BGMS)
        heads = scores_BGRtS.shape[1:3] if len(sight.bias_HTS) > 1 else (1, 1)
        scores_BGRtS += sight.bias_HTS.reshape(*heads, *sight.bias_HTS.shape[1:])
        scores_BGMS = scores_BGRtS.reshape(scores_BGMS.shape)
    return _hiding(sight, scores_BGMS, HIDDEN)


def _hiding(sight: Sight, x_BGMS: jax.Array, value: float) -> jax.Array:
    """`x` with the value in place of what belongs to keys that are not seen."""
    seen_BGRtS = jnp.where(sight.mask_BTS[:, None, None], _unfolded(x_BGMS), value)
    return seen_BGRtS.reshape(x_BGMS.shape)


def _of_bias(of_scores_BGMS: jax.Array, heads: int) -> jax.Array:
    """The gradient of a bias of so many heads, H or 1: [H or 1, t, S]."""
    of_scores_BGRtS = _unfolded(of_scores_BGMS)
    rows, _, _, *of_head = of_scores_BGRtS.shape
    of_bias_HtS = over_rows(of_scores_BGRtS.reshape(rows, -1, *of_head))
    return of_bias_HtS if heads > 1 else of_bias_HtS.sum(axis=0, keepdims=True)


def _unfolded(x_BGMS: jax.Array) -> jax.Array:
    """[B, G, R, t, S]."""
    return x_BGMS.reshape(*x_BGMS.shape[:2], -1, BLOCK, x_BGMS.shape[-1])


def of_queries(x_BTHK: jax.Array, groups: int) -> jax.Array:
    """Queries, or what is like them, as factors of blocks: [N, B, G, K, M]."""
    x_NBtHK = by_blocks(x_BTHK)
    x_NBtGRK = x_NBtHK.reshape(*x_NBtHK.shape[:3], groups, -1, x_NBtHK.shape[-1])
    x_NBGKRt = laid('NBtGRK->NBGKRt', x_NBtGRK)
    return x_NBGKRt.reshape(*x_NBGKRt.shape[:4], -1)


def in_rows(x_NBGMK: jax.Array) -> jax.Array:
    """What queries got by blocks, [B, T, H, K]."""
    x_NBGRtK = x_NBGMK.reshape(*x_NBGMK.shape[:3], -1, BLOCK, x_NBGMK.shape[-1])
    x_BNtGRK = jnp.einsum('NBGRtK->BNtGRK', x_NBGRtK)
    rows, blocks, length, groups, repeats, width = x_BNtGRK.shape
    return x_BNtGRK.reshape(rows, blocks * length, groups * repeats, width)


def by_blocks(x: jax.Array) -> jax.Array:
    """Its second axis in blocks, which come first."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, BLOCK, *x.shape[2:]), 1, 0)


def laid(order: str, x: jax.Array) -> jax.Array:
    """The axes in another order, in memory too: behind a barrier, else XLA leaves them as they lie
    and multiplies so."""
    return jax.lax.optimization_barrier(jnp.einsum(order, x))
