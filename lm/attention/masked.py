"""Attention with its mask written out, [B, 1, T, S]: right for every `Sight`, on every device."""

from typing import Literal

import jax
from jaxtyping import Float

from lm.attention.sight import Sight


def attend(
    q_BTHK: Float[jax.Array, 'B T H K'],
    k_BSGK: Float[jax.Array, 'B S G K'],
    v_BSGK: Float[jax.Array, 'B S G K'],
    sight: Sight,
    implementation: Literal['xla', 'cudnn'] = 'xla',
) -> Float[jax.Array, 'B T H K']:
    """Softmax in fp32. A query with no key to see gets the mean of all values: it is padding."""
    bias_HTS = sight.bias_HTS
    if bias_HTS is not None and implementation == 'cudnn':
        bias_HTS = bias_HTS.astype(q_BTHK.dtype)
    return jax.nn.dot_product_attention(
        q_BTHK,
        k_BSGK,
        v_BSGK,
        bias=None if bias_HTS is None else bias_HTS[None],
        mask=sight.mask_BTS[:, None],
        scale=sight.scale,
        implementation=implementation,
    )
