"""LayerNorm and RMSNorm, computed in fp32 whatever the policy."""

import jax
import jax.numpy as jnp
from flax import nnx

from lm.models.spec import TransformerSpec
from lm.shapes import HiddenBTD


class Norm(nnx.Module):
    """Scales each position's vector to unit size.

    LayerNorm: (x - mean) / sqrt(variance + eps) * scale + bias (Ba et al. 2016, section 3).
    RMSNorm: x / sqrt(mean(x^2) + eps) * scale (Zhang and Sennrich 2019, equation 4).
    """

    def __init__(self, spec: TransformerSpec):
        shape = (spec.config.d_model,)
        self.scale = nnx.Param(jnp.ones(shape), dims='D')
        self.bias = nnx.Param(jnp.zeros(shape), dims='D') if spec.norm == 'layer' else None
        self.eps = spec.norm_eps

    def __call__(self, x_BTD: HiddenBTD) -> HiddenBTD:
        """[B, T, D] in any float dtype -> the same shape and dtype."""
        y_BTD = x_BTD.astype(jnp.float32)
        if self.bias is not None:
            y_BTD -= y_BTD.mean(axis=-1, keepdims=True)
        y_BTD *= jax.lax.rsqrt(jnp.square(y_BTD).mean(axis=-1, keepdims=True) + self.eps)
        y_BTD *= self.scale[...]
        if self.bias is not None:
            y_BTD += self.bias[...]
        return y_BTD.astype(x_BTD.dtype)
