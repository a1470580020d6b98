"""From logits to one token: temperature, top-k and top-p (Holtzman et al. 2020, section 3.1)."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from lm.errors import UserError

_GREEDY = 1e-30  # below, logits over the temperature leave fp32's range


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
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise UserError(f'temperature={self.temperature}: must be at least 0 (0 is greedy)')
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f'top_k={self.top_k}: must be at least 1')
        if not 0 < self.top_p <= 1:
            raise UserError(f'top_p={self.top_p}: must be in (0, 1]')


def choose(
    logits_BV: Float[jax.Array, 'B V'], keys_B: Key[jax.Array, ' B'], sampling: Sampling
) -> Int[jax.Array, ' B']:
    """One id a row: the likeliest if greedy, else a draw by the row's own key."""
    if sampling.temperature < _GREEDY:
        return jnp.argmax(logits_BV, axis=-1)
    return jax.vmap(jax.random.categorical)(keys_B, restricted(logits_BV, sampling))


def restricted(logits_BV: Float[jax.Array, 'B V'], sampling: Sampling) -> Float[jax.Array, 'B V']:
    """The logits, fp32, over the temperature, and -inf for tokens that may not be drawn.

    Temperature comes first, then top-k, then top-p over what top-k left. Of equally likely tokens
    the one with the smaller id counts as likelier, so exactly k remain.

    Args:
      logits_BV: -inf where a token is ruled out already.
      sampling: a temperature above 0.
    """
    logits_BV = logits_BV.astype(jnp.float32) / sampling.temperature
    if sampling.top_k is None and sampling.top_p == 1:
        return logits_BV
    order_BV = jnp.argsort(-logits_BV, axis=-1, stable=True)
    ranked_BV = jnp.take_along_axis(logits_BV, order_BV, axis=-1)
    if sampling.top_k is not None:
        ranked_BV = jnp.where(jnp.arange(ranked_BV.shape[-1]) < sampling.top_k, ranked_BV, -jnp.inf)
    if sampling.top_p < 1:
        # A token stays if those before it hold less than top_p; the first always stays.
        shares_BV = jax.nn.softmax(ranked_BV)
        before_BV = jnp.cumsum(shares_BV, axis=-1) - shares_BV
        ranked_BV = jnp.where(before_BV < sampling.top_p, ranked_BV, -jnp.inf)
    return jnp.take_along_axis(ranked_BV, jnp.argsort(order_BV, axis=-1), axis=-1)
