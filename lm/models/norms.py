"""LayerNorm and RMSNorm, computed in fp32 whatever the policy."""

from functools import partial

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

        y = scaled(x, of(self.scale), self.centred, self.eps)
        if self.bias is not None:
            y += of(self.bias)
        return y.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def scaled(x: Vectors, scale: jax.Array, centred: bool, eps: float) -> Vectors:
    """(x - mean) / sqrt(variance + eps) * scale, fp32; without the mean where not `centred`.

    The backward pass, written out, keeps x as it came and computes the rest anew: left to
    autodiff it would keep an fp32 array of its size, to be written and read.
    """
    return _scaled(x, scale, centred, eps)[0]


def _unit(x: jax.Array, centred: bool, eps: float) -> tuple[jax.Array, jax.Array]:
    """The vectors scaled to unit size, and the factors that did it; fp32."""
    y = x.astype(jnp.float32)
    if centred:
        y -= y.mean(axis=-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + eps)
    return y * factor, factor


def _scaled(
    x: jax.Array, scale: jax.Array, centred: bool, eps: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _unit(x, centred, eps)[0] * scale, (x, scale)


def _scaled_backward(
    centred: bool, eps: float, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, scale = kept
    unit, factor = _unit(x, centred, eps)
    inner = gradient * scale
    along = inner - unit * (inner * unit).mean(axis=-1, keepdims=True)
    if centred:
        along -= inner.mean(axis=-1, keepdims=True)
    scale_gradient = (gradient * unit).sum(axis=tuple(range(x.ndim - 1)))
    return (along * factor).astype(x.dtype), scale_gradient.astype(scale.dtype)


scaled.defvjp(_scaled, _scaled_backward)
