"""cuDNN's flash attention on NVIDIA GPUs, in bf16 or fp16: the scores are never kept.

Packed rows go in by cuDNN's ragged layout: each segment is a sequence of its own, found in the row
by its offset, so that scores between segments are not even computed. `jax.nn` has no word for that
layout, hence the import from JAX's inside; `tests/attention/test_cudnn.py` holds its signature.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax._src.cudnn.fused_attention_stablehlo import MaskType
from jax._src.cudnn.fused_attention_stablehlo import dot_product_attention as ragged_attention
from jaxtyping import Float, Int

from lm.attention import masked
from lm.attention.sight import Sight

Queries: TypeAlias = Float[jax.Array, 'B T H K']
Keys: TypeAlias = Float[jax.Array, 'B S G K']


def attend(
    q_BTHK: Queries, k_BSGK: Keys, v_BSGK: Keys, sight: Sight, segments: int | None
) -> Queries:
    """Attention by cuDNN: one sequence a row, a ragged row, or with a mask.

    Args:
      q_BTHK, k_BSGK, v_BSGK: bf16 or fp16; K a multiple of 8, at most 256 on Hopper, else 128.
      sight: who sees whom.
      segments: no row has more, padding counted as one; what is beyond them would come out
        undefined, and whoever makes the rows holds the bound. None: nobody knows, or so many that
        a mask is faster.
    """
    if not sight.is_stretch or segments is None:
        return masked.attend(q_BTHK, k_BSGK, v_BSGK, sight, implementation='cudnn')
    if segments == 1:
        return _one_segment(q_BTHK, k_BSGK, v_BSGK, sight)
    if sight.bias_HTS is not None:
        # Its gradient in the ragged layout is not to be had.
        return masked.attend(q_BTHK, k_BSGK, v_BSGK, sight, implementation='cudnn')
    lengths_BN, offsets_BN = stretches(sight.segments_BT, segments)
    return ragged_attention(
        q_BTHK,
        k_BSGK,
        v_BSGK,
        q_seqlen=lengths_BN,
        kv_seqlen=lengths_BN,
        q_offsets=offsets_BN,
        kv_offsets=offsets_BN,
        scale=sight.scale,
        mask_type=MaskType.PADDING_CAUSAL if sight.causal else MaskType.PADDING,
        sliding_window_length=_window(sight),
    )


def _one_segment(q_BTHK: Queries, k_BSGK: Keys, v_BSGK: Keys, sight: Sight) -> Queries:
    """Rows of one segment, and padding behind it."""
    bias_HTS, window = sight.bias_HTS, _window(sight)
    lengths_B = None
    if not sight.causal:
        # At least one key, so that a row of padding alone has something to see.
        lengths_B = jnp.maximum(1, jnp.sum(sight.segments_BT > 0, axis=1, dtype=jnp.int32))
    seen_BTHK = jax.nn.dot_product_attention(
        q_BTHK,
        k_BSGK,
        v_BSGK,
        bias=None if bias_HTS is None else bias_HTS[None].astype(q_BTHK.dtype),
        scale=sight.scale,
        is_causal=sight.causal,
        query_seq_lengths=lengths_B,
        key_value_seq_lengths=lengths_B,
        local_window_size=None if window is None else (window - 1, 0),
        implementation='cudnn',
    )
    if sight.causal:
        return seen_BTHK
    # What stands behind the lengths is undefined, and might be no number.
    return jnp.where((sight.segments_BT > 0)[:, :, None, None], seen_BTHK, 0)


def _window(sight: Sight) -> int | None:
    assert sight.window is None or isinstance(sight.window, int)
    return sight.window


def stretches(
    segments_BT: Int[jax.Array, 'B T'], most: int
) -> tuple[Int[jax.Array, 'B N'], Int[jax.Array, 'B N+1']]:
    """Lengths and beginnings of each row's runs of equal ids, as cuDNN's ragged layout wants them.

    Args:
      segments_BT: segment ids; padding is a run too.
      most: N, no row has more runs.

    Returns:
      int32; -1 where a row has no such run, and in the last column of the beginnings.
    """
    before_BT = jnp.pad(segments_BT[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    number_BT = jnp.cumsum(segments_BT != before_BT, axis=1) - 1
    hit_BTN = number_BT[:, :, None] == jnp.arange(most)
    lengths_BN = jnp.sum(hit_BTN, axis=1, dtype=jnp.int32)
    begins_BN = jnp.cumsum(lengths_BN, axis=1, dtype=jnp.int32) - lengths_BN
    there_BN = lengths_BN > 0
    offsets_BN = jnp.pad(jnp.where(there_BN, begins_BN, -1), ((0, 0), (0, 1)), constant_values=-1)
    return jnp.where(there_BN, lengths_BN, -1), offsets_BN
