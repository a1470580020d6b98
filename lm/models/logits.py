"""The product that logits are, with its backward pass written out."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lm.shapes import HiddenBTD, LogitsBTV


def product(x_BTD: HiddenBTD, weight_DV: jax.Array, dtype: DTypeLike) -> LogitsBTV:
    """x W, with sums in `dtype`, whose backward pass reads the gradient of the logits as it lies.

    That array is the step's largest. XLA:CPU would write it a second time, transposed, for the
    matrix's gradient, and for that keep the softmax apart as well: a fifth of a small model's step.
    """
    # A backward pass by hand does not see the precision that is set where the forward one is.
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return _product(x_BTD, weight_DV, Arithmetic(dtype, precision))


class Arithmetic(NamedTuple):
    """Of the products, forwards and backwards.

    Attributes:
      dtype: of its sums.
      precision: of its factors.
    """

    dtype: DTypeLike
    precision: str | None

    def product(self, equation: str, *factors: jax.Array) -> jax.Array:
        """The product of the factors that an equation says."""
        return jnp.einsum(
            equation, *factors, preferred_element_type=self.dtype, precision=self.precision
        )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x_BTD: jax.Array, weight_DV: jax.Array, arithmetic: Arithmetic) -> LogitsBTV:
    return arithmetic.product('BTD,DV->BTV', x_BTD, weight_DV)


def _forward(
    x_BTD: jax.Array, weight_DV: jax.Array, arithmetic: Arithmetic
) -> tuple[LogitsBTV, tuple[jax.Array, jax.Array]]:
    return arithmetic.product('BTD,DV->BTV', x_BTD, weight_DV), (x_BTD, weight_DV)


def _backward(
    arithmetic: Arithmetic, kept: tuple[jax.Array, jax.Array], gradient_BTV: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_autodiff(
        x_BTD: jax.Array, weight_DV: jax.Array, gradient_BTV: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        forward = partial(arithmetic.product, 'BTD,DV->BTV')
        gradients: tuple[jax.Array, jax.Array] = jax.vjp(forward, x_BTD, weight_DV)[1](gradient_BTV)
        return gradients

    def on_a_cpu(
        x_BTD: jax.Array, weight_DV: jax.Array, gradient_BTV: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        # The small factor is transposed, behind a barrier that keeps it so.
        x_DBT = jax.lax.optimization_barrier(jnp.moveaxis(x_BTD, -1, 0))
        weight_gradient_DV = arithmetic.product('DBT,BTV->DV', x_DBT, gradient_BTV)
        x_gradient_BTD = by_autodiff(x_BTD, weight_DV, gradient_BTV)[0]
        return x_gradient_BTD, weight_gradient_DV.astype(weight_DV.dtype)

    return jax.lax.platform_dependent(*kept, gradient_BTV, cpu=on_a_cpu, default=by_autodiff)


_product.defvjp(_forward, _backward)
