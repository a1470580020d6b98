"""Attention with its mask written out, [B, 1, T, S]: right for every `Sight`, on every device."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lm.attention.bias import for_rows
from lm.attention.sight import Sight


def attend(
    q_BTHK: Float[jax.Array, 'B T H K'],
    k_BSGK: Float[jax.Array, 'B S G K'],
    v_BSGK: Float[jax.Array, 'B S G K'],
    sight: Sight,
    implementation: Literal['xla', 'cudnn'] = 'xla',
) -> Float[jax.Array, 'B T H K']:
    """Softmax in fp32. A query with no key to see gets the mean of all values: it is padding.

    Heads of fp16 are multiplied in fp32.
    """
    dtype, bias_HTS = q_BTHK.dtype, sight.bias_HTS
    if dtype == jnp.float16 and implementation == 'xla':
        # JAX asks for products of fp16 with sums in fp32, which CPUs and TPUs do not have.
        q_BTHK, k_BSGK, v_BSGK = (x.astype(jnp.float32) for x in (q_BTHK, k_BSGK, v_BSGK))
    bias_BHTS = None
    if bias_HTS is not None and implementation == 'cudnn':
        bias_BHTS = bias_HTS.astype(dtype)[None]
    elif bias_HTS is not None:
        bias_BHTS = for_rows(bias_HTS, q_BTHK.shape[0])
    seen_BTHK = jax.nn.dot_product_attention(
        q_BTHK,
        k_BSGK,
        v_BSGK,
        bias=bias_BHTS,
        mask=sight.mask_BTS[:, None],
        scale=sight.scale,
        implementation=implementation,
    )
    return seen_BTHK.astype(dtype)
