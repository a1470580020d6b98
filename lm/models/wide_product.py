"""A product with a matrix that is wider than high, with its backward pass written out."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from lm.arithmetic import Arithmetic
from lm.shapes import HiddenBTD


def wide_product(
    x_BTD: HiddenBTD, weight_DF: Float[jax.Array, 'D F'], dtype: DTypeLike | None = None
) -> Float[jax.Array, 'B T F']:
    """x W, with sums in `dtype`, whose backward pass reads the gradient of x W as it lies.

    XLA:CPU would write that array, the larger one, a second time, transposed, for the matrix's
    gradient, and compute what makes it twice: of the logits of a small model a quarter of its step
    (docs/LOG.md). Here x is transposed. Elsewhere products take factors either way, and the
    backward pass is autodiff's. `dtype` None is that of the factors.
    """
    return _product(x_BTD, weight_DF, Arithmetic.here(dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x_BTD: jax.Array, weight_DF: jax.Array, arithmetic: Arithmetic) -> jax.Array:
    return arithmetic.product('BTD,DF->BTF', x_BTD, weight_DF)


def _forward(
    x_BTD: jax.Array, weight_DF: jax.Array, arithmetic: Arithmetic
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return arithmetic.product('BTD,DF->BTF', x_BTD, weight_DF), (x_BTD, weight_DF)


def _backward(
    arithmetic: Arithmetic, kept: tuple[jax.Array, jax.Array], gradient_BTF: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_BTD, weight_DF = kept
    x_gradient_BTD = arithmetic.product('BTF,DF->BTD', gradient_BTF, weight_DF)

    def turned(x_BTD: jax.Array, gradient_BTF: jax.Array) -> jax.Array:
        # Behind a barrier, else XLA turns the other factor.
        x_DBT = jax.lax.optimization_barrier(jnp.moveaxis(x_BTD, -1, 0))
        return arithmetic.product('DBT,BTF->DF', x_DBT, gradient_BTF)

    weight_gradient_DF = jax.lax.platform_dependent(
        x_BTD,
        gradient_BTF,
        cpu=turned,
        default=partial(arithmetic.product, 'BTD,BTF->DF'),
    )
    return x_gradient_BTD.astype(x_BTD.dtype), weight_gradient_DF.astype(weight_DF.dtype)


_product.defvjp(_forward, _backward)
