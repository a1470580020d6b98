"""LayerNorm and RMSNorm, computed in fp32 whatever the policy."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from lm.models.spec import TransformerSpec

Vectors = Float[jax.Array, '... D']


class Norm(nnx.Module):
    """Scales each position's vector to unit size.

    LayerNorm: (x - mean) / sqrt(variance + eps) * scale + bias (Ba et al. 2016, section 3), or
    without the bias.
    RMSNorm: x / sqrt(mean(x^2) + eps) * scale (Zhang and Sennrich 2019, equation 4).

    `dims` says what is scaled: `D`, the residual stream, or `K`, each head by itself. With `I`
    before it, it is the norms of all layers after the first, one of which is called.
    """

    def __init__(self, spec: TransformerSpec, dims: str = 'D'):
        config = spec.config
        sizes = {'D': config.d_model, 'K': config.head_width, 'I': config.num_layers - 1}
        shape = tuple(sizes[letter] for letter in dims)
        self.scale = nnx.Param(jnp.ones(shape), dims=dims)
        self.centred = spec.norm == 'layer'
        biased = self.centred and spec.norm_bias
        self.bias = nnx.Param(jnp.zeros(shape), dims=dims) if biased else None
        self.eps = spec.norm_eps

    def __call__(self, x: Vectors, which: int | jax.Array | None = None) -> Vectors:
        """[..., D] or [..., K] in any float dtype -> the same shape and dtype.

        Args:
          x: what is normed.
          which: of stacked norms the one, from 0.
        """

        def of(param: nnx.Param) -> jax.Array:
            return param[...] if which is None else param[...][which]

        y = x.astype(jnp.float32)
        if self.centred:
            y -= y.mean(axis=-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.eps)
        y *= of(self.scale)
        if self.bias is not None:
            y += of(self.bias)
        return y.astype(x.dtype)
