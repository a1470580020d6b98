"""LayerNorm and RMSNorm, computed in fp32 whatever the policy."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from lm.models.spec import TransformerSpec

Vectors = Float[jax.Array, '... D']


class Norm(nnx.Module):
    """Scales each position's vector to unit size.

    LayerNorm: (x - mean) / sqrt(variance + eps) * scale + bias (Ba et al. 2016, section 3).
    RMSNorm: x / sqrt(mean(x^2) + eps) * scale (Zhang and Sennrich 2019, equation 4).

    `dims` says what is scaled: `D`, the residual stream, or `K`, each head by itself.
    """

    def __init__(self, spec: TransformerSpec, dims: str = 'D'):
        shape = (spec.config.head_width if dims == 'K' else spec.config.d_model,)
        self.scale = nnx.Param(jnp.ones(shape), dims=dims)
        self.bias = nnx.Param(jnp.zeros(shape), dims=dims) if spec.norm == 'layer' else None
        self.eps = spec.norm_eps

    def __call__(self, x: Vectors) -> Vectors:
        """[..., D] or [..., K] in any float dtype -> the same shape and dtype."""
        y = x.astype(jnp.float32)
        if self.bias is not None:
            y -= y.mean(axis=-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.eps)
        y *= self.scale[...]
        if self.bias is not None:
            y += self.bias[...]
        return y.astype(x.dtype)
