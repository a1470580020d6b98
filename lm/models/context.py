"""What the layers of one forward pass share: layout, number format, dropout."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from lm.layout import Layout


@dataclass(frozen=True)
class Context:
    """One forward pass, or a part of it with a dropout key of its own.

    Attributes:
      layout: where activations lie, and how attention is computed.
      dtype: of activations and of the operands of matrix products.
      dropout: probability of dropping an activation.
      dropout_key: None switches dropout off.
    """

    layout: Layout
    dtype: DTypeLike
    dropout: float = 0.0
    dropout_key: jax.Array | None = None

    def cast(self, param: nnx.Param) -> jax.Array:
        """The parameter's array in the dtype of the computation, as a layer multiplies with it."""
        return self.layout.weight(param[...].astype(self.dtype), param.dims)

    def table(self, param: nnx.Param) -> jax.Array:
        """A parameter whose rows are looked up; in its own dtype, since their gradients add up."""
        return self.layout.weight(param[...], param.dims, looked_up=True)

    def part(self, index: int | jax.Array) -> 'Context':
        """The same pass with the dropout key of its part `index` (a stack, a layer)."""
        if self.dropout_key is None:
            return self
        return dataclasses.replace(self, dropout_key=jax.random.fold_in(self.dropout_key, index))

    def drop(self, x: jax.Array, site: int) -> jax.Array:
        """`x` with entries zeroed at random and the rest scaled up to keep the mean.

        Each site of a part has a number of its own, so that no two masks are equal.
        """
        if self.dropout_key is None or self.dropout == 0:
            return x
        key = jax.random.fold_in(self.dropout_key, site)
        keep = jax.random.bernoulli(key, 1 - self.dropout, x.shape)
        return jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)
