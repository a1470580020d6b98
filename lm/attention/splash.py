"""Splash attention on TPUs, JAX's Pallas kernel, in bf16: the scores are never kept.

Segment ids go in as they are, and blocks of scores that causality or a window hides are skipped.
Its products are bf16 passes, whatever the dtype, so that fp32 stays with XLA.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask as masks,
)
from jaxtyping import Float, Int

from lm.attention.kernel import KEEPS, LANES
from lm.attention.sight import Sight

BLOCKS = (512, 256, LANES)
"""Lengths of the blocks of queries and keys; the first that divides the row is taken."""


def serves(sight: Sight) -> bool:
    """Whether the kernel computes a sight. `kernel._masked` says the same of a model's use.

    Queries with keys of their own see themselves at least: of no key at all it would make nan.
    """
    static = sight.window is None or isinstance(sight.window, int)
    plain = sight.prefix_BS is None and sight.bias_HTS is None
    return sight.own_keys and plain and static and sight.segments_BT.shape[1] % LANES == 0


def attend(
    q_BTHK: Float[jax.Array, 'B T H K'],
    k_BTGK: Float[jax.Array, 'B T G K'],
    v_BTGK: Float[jax.Array, 'B T G K'],
    sight: Sight,
    *,
    interpret: bool = False,
) -> Float[jax.Array, 'B T H K']:
    """Attention of a sight that it `serves`; softmax in fp32.

    Args:
      q_BTHK, k_BTGK, v_BTGK: bf16.
      sight: who sees whom.
      interpret: without a TPU, slowly.
    """
    length, heads = q_BTHK.shape[1:3]
    block = next(size for size in BLOCKS if length % size == 0)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([_mask(sight, length)] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=KEEPS,
        interpret=interpret,
    )

    def of_row(
        q_HTK: jax.Array, k: jax.Array, v: jax.Array, ids_T: Int[jax.Array, ' T']
    ) -> jax.Array:
        seen_HTK: jax.Array = kernel(q_HTK, k, v, kernels.SegmentIds(ids_T, ids_T))
        return seen_HTK

    # The kernel does not scale.
    scaled_BTHK = (q_BTHK.astype(jnp.float32) * sight.scale).astype(q_BTHK.dtype)
    q, k, v = (x.swapaxes(1, 2) for x in (scaled_BTHK, k_BTGK, v_BTGK))
    seen_BTHK: jax.Array = jax.vmap(of_row)(q, k, v, sight.segments_BT).swapaxes(1, 2)
    return seen_BTHK


def _mask(sight: Sight, length: int) -> masks.Mask:
    """What places alone hide."""
    shape, window = (length, length), sight.window
    if window is None:
        return masks.CausalMask(shape) if sight.causal else masks.FullMask(shape)
    assert isinstance(window, int)
    return masks.LocalMask(shape, (window - 1, 0 if sight.causal else window - 1), 0)
