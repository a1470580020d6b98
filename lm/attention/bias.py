"""What is added to the scores of every row alike."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def for_rows(bias_HTS: Float[jax.Array, 'h T S'], rows: int) -> Float[jax.Array, 'B h T S']:
    """The bias of each of so many rows; its gradient is `over_rows` of theirs."""
    return jnp.broadcast_to(bias_HTS, (rows, *bias_HTS.shape))


def over_rows(gradient_BHTS: Float[jax.Array, 'B h T S']) -> Float[jax.Array, 'h T S']:
    """The sum over rows, in the dtype of the gradients.

    On CPUs a product with ones: XLA takes thirty times as long to add up a few large arrays along
    their leading axis (docs/LOG.md).
    """

    def product(gradient_BHTS: jax.Array) -> jax.Array:
        ones_B = jnp.ones(gradient_BHTS.shape[0], gradient_BHTS.dtype)
        return jnp.einsum('B,BHTS->HTS', ones_B, gradient_BHTS, precision='highest')

    return jax.lax.platform_dependent(gradient_BHTS, cpu=product, default=partial(jnp.sum, axis=0))


for_rows.defvjp(
    lambda bias_HTS, rows: (for_rows(bias_HTS, rows), None),
    lambda rows, _, gradient_BHTS: (over_rows(gradient_BHTS),),
)
