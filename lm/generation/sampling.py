"""From logits to one token: temperature, top-k and top-p (Holtzman et al. 2020, section 3.1)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from lm.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Attributes:
      temperature: logits are divided by it; 0 is greedy.
      top_k: only the k most likely tokens remain; None is all.
      top_p: only the most likely tokens whose probabilities first reach p remain; 1 is all.

    Raises:
      UserError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise UserError(f'temperature={self.temperature}: must be at least 0 (0 is greedy)')
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f'top_k={self.top_k}: must be at least 1')
        if not 0 < self.top_p <= 1:
            raise UserError(f'top_p={self.top_p}: must be in (0, 1]')


def choose(
    logits_BV: Float[jax.Array, 'B V'], keys_B: jax.Array, sampling: Sampling
) -> Int[jax.Array, ' B']:
    """One id a row: the likeliest if greedy, else a draw by the row's own key.

    Temperature comes first, then top-k, then top-p over what top-k left.
    """
    if sampling.temperature == 0:
        return jnp.argmax(logits_BV, axis=-1)
    logits_BV = logits_BV.astype(jnp.float32) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits_BV.shape[-1]:
        least_B1 = jax.lax.top_k(logits_BV, sampling.top_k)[0][:, -1:]
        logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    if sampling.top_p < 1:
        logits_BV = _nucleus(logits_BV, sampling.top_p)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV)


def _nucleus(logits_BV: jax.Array, top_p: float) -> jax.Array:
    """-inf on what lies outside the smallest set of tokens that holds `top_p`."""
    order_BV = jnp.argsort(-logits_BV, axis=-1)
    sorted_BV = jnp.take_along_axis(jax.nn.softmax(logits_BV), order_BV, axis=-1)
    # A token stays if those before it hold less than top_p; the first always stays.
    keep_BV = jnp.cumsum(sorted_BV, axis=-1) - sorted_BV < top_p
    rank_BV = jnp.argsort(order_BV, axis=-1)
    return jnp.where(jnp.take_along_axis(keep_BV, rank_BV, axis=-1), logits_BV, -jnp.inf)
