"""What the layers of one forward pass share: layout, number formats, dropout."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from lm.layout import Layout
from lm.models.wide_product import wide_product
from lm.precision import quantization
from lm.precision.policy import Quantization

WIDE = ('BTD,DF->BTF', 'BTD,DV->BTV')
"""Products with a matrix that is wider than high."""
PRODUCT = 'quantized_product'
"""Name of what a quantized product gives, for the policies that keep products."""
TIED = 'BTD,VD->BTV'
"""The head's with the embedding's table, which is turned."""


@dataclass(frozen=True)
class Context:
    """One forward pass, or a part of it with a dropout key of its own.

    Attributes:
      layout: where activations lie, and how attention is computed.
      dtype: of activations and of the operands of matrix products.
      dropout: probability of dropping an activation.
      dropout_key: None switches dropout off.
      quantization: of products with weights.
    """

    layout: Layout
    dtype: DTypeLike
    dropout: float = 0.0
    dropout_key: jax.Array | None = None
    quantization: Quantization | None = None

    def cast(self, param: nnx.Param) -> jax.Array:
        """The parameter's array in the dtype of the computation, as a layer computes with it.

        A matrix is rounded where the policy rounds tables.
        """
        value = param[...]
        if not isinstance(value, jax.Array):
            return quantization.dequantized(value, self.dtype)
        weight = self.layout.weight(value.astype(self.dtype), param.dims)
        return self._rounded(weight, param.dims)

    def product(
        self, equation: str, x: jax.Array, weight: nnx.Param, dtype: DTypeLike | None = None
    ) -> jax.Array:
        """`x` times a weight, computed as the policy says: every product with weights is one,
        but that with a recurrent state.

        Args:
          equation: such as `BTD,DHK->BTHK`.
          x: activations.
          weight: of one layer.
          dtype: of what it gives, which the head's is asked for; None: that of the computation.
        """
        how = self.quantization
        if how is not None and 'V' not in weight.dims:
            value = weight[...]
            if isinstance(value, jax.Array):
                value = self.layout.weight(value.astype(self.dtype), weight.dims)
            made = quantization.product(equation, x, value, weight.dims, how)
            return checkpoint_name(made, PRODUCT)
        if equation in WIDE:
            return wide_product(x, self.cast(weight), dtype)
        if equation == TIED:
            return wide_product(x, self.cast(weight).T, dtype)
        return jnp.einsum(equation, x, self.cast(weight), preferred_element_type=dtype)

    def rows(self, param: nnx.Param, ids: jax.Array) -> jax.Array:
        """Rows of a table, [..., D] in the dtype of the computation.

        An id outside the table gives NaN, not a neighbour.
        """
        value = param[...]
        if not isinstance(value, jax.Array):
            taken = jax.tree.map(lambda x: jnp.take(x, ids, axis=0), value)
            outside = (ids >= value.shape[0])[..., None]
            return jnp.where(outside, jnp.nan, quantization.dequantized(taken, self.dtype))
        # In fp32, in which the gradients of rows add up.
        table = self.layout.weight(value, param.dims, looked_up=True).astype(jnp.float32)
        taken = jnp.take(table, ids, axis=0)
        if self.quantization is not None and self.quantization.tables is not None:
            # A row has a scale of its own: what is not looked up need not be rounded.
            rows = (taken.ndim - 1,)
            taken = quantization.rounded(taken, self.dtype, self.quantization.tables, rows)
        return taken.astype(self.dtype)

    def _rounded(self, weight: jax.Array, dims: str) -> jax.Array:
        how = self.quantization
        if how is None or how.tables is None or not quantization.rounds(dims):
            return weight
        shared = quantization.shared_axes(dims)
        return quantization.rounded(weight, self.dtype, how.tables, shared)

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
