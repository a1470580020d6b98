"""Attention by blocks of queries, of whose scores one is held at a time.

Right for every `Sight` of whole blocks, on every device. As in FlashAttention (Dao et al. 2022,
algorithms 2 and 4), the forward pass keeps what attention gives and two numbers a query and head,
and the backward pass computes a block's scores anew: of memory that grows with T x S a layer keeps
none. Keys that no query of a group of blocks sees are not read: of a causal model's scores three
eighths.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Float

from lm.arithmetic import Arithmetic
from lm.attention.block import Sums, by_blocks, gradients, in_rows, laid, of_queries, seen
from lm.attention.kernel import BLOCK, KEEPS, has_blocks
from lm.attention.sight import Sight

GROUPS = 4
"""Loops over blocks, each compiled for the keys that its own blocks see."""

Arrays: TypeAlias = dict[str, Any]
"""A sight's, by the names of its fields."""


def serves(sight: Sight) -> bool:
    """Whether the queries are several whole blocks."""
    return has_blocks(sight.segments_BT.shape[1])


def attend(
    q_BTHK: Float[jax.Array, 'B T H K'],
    k_BSGK: Float[jax.Array, 'B S G K'],
    v_BSGK: Float[jax.Array, 'B S G K'],
    sight: Sight,
) -> Float[jax.Array, 'B T H K']:
    """As `masked.attend`, but for padding: a query that sees no key has the mean of fewer values,
    those that its group reads."""
    arrays = {name: x for name, x in vars(sight).items() if isinstance(x, jax.Array | np.ndarray)}
    fields = tuple((name, x) for name, x in vars(sight).items() if name not in arrays)
    fixed = _Fixed(fields, Arithmetic.here(jnp.float32))
    return _attend(fixed, q_BTHK, k_BSGK, v_BSGK, arrays)


class _Fixed(NamedTuple):
    """What is known while compiling.

    Attributes:
      fields: of the sight, those that are no arrays, by name.
      arithmetic: of products.
    """

    fields: tuple[tuple[str, Any], ...]
    arithmetic: Arithmetic

    def sight(self, arrays: Arrays) -> Sight:
        """The sight with its arrays."""
        return Sight(**{**dict(self.fields), **arrays})


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    fixed: _Fixed, q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, arrays: Arrays
) -> jax.Array:
    return _forward(fixed, q_BTHK, k_BSGK, v_BSGK, arrays)[0]


class _Kept(NamedTuple):
    """From the forward pass for the backward one.

    Attributes:
      q_BTHK, k_BSGK, v_BSGK, arrays: what came in.
      seen_BTHK: what was given, in the same dtype.
      sums: of each block's softmax, [N, B, G, M].
    """

    q_BTHK: jax.Array
    k_BSGK: jax.Array
    v_BSGK: jax.Array
    arrays: Arrays
    seen_BTHK: jax.Array
    sums: Sums


def _forward(
    fixed: _Fixed, q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, arrays: Arrays
) -> tuple[jax.Array, _Kept]:
    wide = _multiplied(q_BTHK.dtype)
    q_NBGKM = of_queries(q_BTHK.astype(wide), k_BSGK.shape[2])
    k_BGKS, v_BGSK = (
        laid(order, x.astype(wide)) for order, x in (('BSGK->BGKS', k_BSGK), ('BSGK->BGSK', v_BSGK))
    )
    done = []
    for blocks, keys, sight in _groups(fixed.sight(arrays)):
        see = partial(_seen, fixed.arithmetic, k_BGKS[..., keys], v_BGSK[:, :, keys], sight)
        done.append(jax.lax.map(see, (q_NBGKM[blocks], _by_block(sight))))
    seen_NBGMK, sums = jax.tree.map(lambda *parts: jnp.concatenate(parts), *done)
    seen_BTHK = checkpoint_name(in_rows(seen_NBGMK).astype(q_BTHK.dtype), KEEPS)
    sums = checkpoint_name(sums, KEEPS)
    return seen_BTHK, _Kept(q_BTHK, k_BSGK, v_BSGK, arrays, seen_BTHK, sums)


def _seen(
    arithmetic: Arithmetic,
    k_BGKS: jax.Array,
    v_BGSK: jax.Array,
    sight: Sight,
    of_block: tuple[jax.Array, Arrays],
) -> tuple[jax.Array, Sums]:
    q_BGKM, own = of_block
    return seen(arithmetic, q_BGKM, k_BGKS, v_BGSK, replace(sight, **own))


def _backward(
    fixed: _Fixed, kept: _Kept, gradient_BTHK: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, dict[str, jax.Array | None]]:
    sight, dtype, groups = fixed.sight(kept.arrays), kept.q_BTHK.dtype, kept.k_BSGK.shape[2]
    wide = _multiplied(dtype)
    q_BTHK, k_BSGK, v_BSGK = (x.astype(wide) for x in (kept.q_BTHK, kept.k_BSGK, kept.v_BSGK))
    fp32_BTHK, total_NBGM = gradient_BTHK.astype(jnp.float32), kept.sums.total_BGM
    g_NBGKM = (of_queries(fp32_BTHK, groups) / total_NBGM[..., None, :]).astype(wide)
    mean_BTH1 = (fp32_BTHK * kept.seen_BTHK.astype(jnp.float32)).sum(axis=-1, keepdims=True)
    mean_NBGM = of_queries(mean_BTH1, groups)[..., 0, :] / total_NBGM
    queries = of_queries(q_BTHK, groups), g_NBGKM, kept.sums.largest_BGM, mean_NBGM
    k_BGKS, k_BGSK = laid('BSGK->BGKS', k_BSGK), laid('BSGK->BGSK', k_BSGK)
    v_BGKS = laid('BSGK->BGKS', v_BSGK)
    of_k_BGKS = of_v_BGKS = jnp.zeros(k_BGKS.shape, jnp.float32)
    of_q, of_bias = [], []
    for blocks, keys, part in _groups(sight):
        (of_k_BGKs, of_v_BGKs), (of_q_NBGMK, of_bias_NHts) = jax.lax.scan(
            partial(
                _gradients,
                *(fixed.arithmetic, k_BGKS[..., keys], k_BGSK[:, :, keys], v_BGKS[..., keys], part),
            ),
            (of_k_BGKS[..., keys], of_v_BGKS[..., keys]),
            (*(x[blocks] for x in queries), _by_block(part)),
        )
        of_k_BGKS = of_k_BGKS.at[..., keys].set(of_k_BGKs)
        of_v_BGKS = of_v_BGKS.at[..., keys].set(of_v_BGKs)
        of_q.append(of_q_NBGMK)
        if of_bias_NHts is not None:
            of_bias.append(_of_all_keys(of_bias_NHts, keys, k_BGKS.shape[-1]))
    of_arrays: dict[str, jax.Array | None] = dict.fromkeys(kept.arrays)
    if sight.bias_HTS is not None:
        of_arrays['bias_HTS'] = jnp.concatenate(of_bias, axis=1).astype(sight.bias_HTS.dtype)
    of_q_BTHK = in_rows(jax.lax.optimization_barrier(jnp.concatenate(of_q)))
    return (
        (sight.scale * of_q_BTHK).astype(dtype),
        (sight.scale * laid('BGKS->BSGK', of_k_BGKS)).astype(dtype),
        laid('BGKS->BSGK', of_v_BGKS).astype(dtype),
        of_arrays,
    )


def _gradients(
    arithmetic: Arithmetic,
    k_BGKS: jax.Array,
    k_BGSK: jax.Array,
    v_BGKS: jax.Array,
    sight: Sight,
    of_keys_values: tuple[jax.Array, jax.Array],
    of_block: tuple[jax.Array, jax.Array, jax.Array, jax.Array, Arrays],
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array | None]]:
    """A block's, those of keys and values added to what other blocks gave them."""
    q_BGKM, g_BGKM, largest_BGM, mean_BGM, own = of_block
    seeing = q_BGKM, k_BGKS, k_BGSK, v_BGKS, replace(sight, **own)
    of = gradients(arithmetic, *seeing, g_BGKM, largest_BGM, mean_BGM)
    of_k_BGKS, of_v_BGKS = of_keys_values
    return (of_k_BGKS + of.k_BGKS, of_v_BGKS + of.v_BGKS), (of.q_BGMK, of.bias_HtS)


def _of_all_keys(of_bias_NHts: jax.Array, keys: slice, length: int) -> jax.Array:
    """The gradient of a group's bias, [H or 1, N t, S], 0 for the keys that it does not read."""
    of_bias_HTs = jnp.concatenate(list(of_bias_NHts), axis=1)
    return jnp.pad(of_bias_HTs, ((0, 0), (0, 0), (keys.start, length - keys.stop)))


_attend.defvjp(_forward, _backward)


def _multiplied(dtype: DTypeLike) -> DTypeLike:
    """The dtype of factors: CPUs and TPUs have no products of fp16 with sums in fp32."""
    return jnp.float32 if dtype == jnp.float16 else dtype


def _groups(sight: Sight) -> Iterator[tuple[slice, slice, Sight]]:
    """Groups of blocks: their blocks, the keys that they read, and what they see of these."""
    blocks = sight.segments_BT.shape[1] // BLOCK
    size = -(-blocks // GROUPS)
    for start in range(0, blocks, size):
        stop = min(start + size, blocks)
        queries = slice(start * BLOCK, stop * BLOCK)
        keys = sight.keys_of(queries)
        yield slice(start, stop), keys, sight.cut(queries, keys)


def _by_block(sight: Sight) -> Arrays:
    """Of a group's sight what differs from block to block, [N, ...]."""
    segments_NBt = by_blocks(sight.segments_BT)
    own = {'segments_BT': segments_NBt}
    own['shift'] = sight.shift + BLOCK * jnp.arange(len(segments_NBt))
    if sight.bias_HTS is not None:
        own['bias_HTS'] = by_blocks(sight.bias_HTS)
    return own
