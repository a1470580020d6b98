"""Products in a backward pass that is written out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class Arithmetic(NamedTuple):
    """Of products, forwards and backwards.

    Attributes:
      dtype: of their sums; None: that of the factors.
      precision: of their factors.
    """

    dtype: DTypeLike | None
    precision: str | None

    @classmethod
    def here(cls, dtype: DTypeLike | None) -> 'Arithmetic':
        """With the precision that is set where it is asked.

        A backward pass by hand does not see what is set where the forward one is.
        """
        return cls(dtype, jax.config.jax_default_matmul_precision)  # type: ignore[attr-defined]

    def product(self, equation: str, *factors: jax.Array) -> jax.Array:
        """The product of the factors that an equation says."""
        return jnp.einsum(
            equation, *factors, preferred_element_type=self.dtype, precision=self.precision
        )
