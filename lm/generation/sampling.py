"""From logits to one token: temperature, top-k and top-p (Holtzman et al. 2020, section 3.1)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from lm.errors import UserError

_ALL = 2**31 - 1
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

    def draw(self) -> 'Draw':
        """The same for compiled programs."""
        top_k = _ALL if self.top_k is None else min(self.top_k, _ALL)
        return Draw(jnp.float32(self.temperature), jnp.int32(top_k), jnp.float32(self.top_p))


class Draw(NamedTuple):
    """A `Sampling` as compiled programs take it, so that one program serves all settings.

    Attributes:
      temperature, top_p: fp32.
      top_k: int32; all tokens where it is larger than there are.
    """

    temperature: Float[jax.Array, '']
    top_k: Int[jax.Array, '']
    top_p: Float[jax.Array, '']


def choose(
    logits_BV: Float[jax.Array, 'B V'], keys_B: Key[jax.Array, ' B'], draw: Draw
) -> Int[jax.Array, ' B']:
    """One id a row: the likeliest if greedy, else a draw by the row's own key."""

    def drawn() -> jax.Array:
        return jax.vmap(jax.random.categorical)(keys_B, restricted(logits_BV, draw))

    return jax.lax.cond(draw.temperature < _GREEDY, lambda: jnp.argmax(logits_BV, axis=-1), drawn)


def probabilities(logits_BV: Float[jax.Array, 'B V'], draw: Draw) -> Float[jax.Array, 'B V']:
    """The probability by which `choose` gives each id, fp32; greedy, 1 for the likeliest."""
    return jax.lax.cond(
        draw.temperature < _GREEDY,
        lambda: jax.nn.one_hot(jnp.argmax(logits_BV, axis=-1), logits_BV.shape[-1]),
        lambda: jax.nn.softmax(restricted(logits_BV, draw)),
    )


def restricted(logits_BV: Float[jax.Array, 'B V'], draw: Draw) -> Float[jax.Array, 'B V']:
    """The logits, fp32, over the temperature, and -inf for tokens that may not be drawn.

    Temperature comes first, then top-k, then top-p over what top-k left. Of equally likely tokens
    the one with the smaller id counts as likelier, so exactly k remain.

    Args:
      logits_BV: -inf where a token is ruled out already.
      draw: of a temperature above 0.
    """
    logits_BV = logits_BV.astype(jnp.float32) / draw.temperature
    all_may_be_drawn = (draw.top_k >= logits_BV.shape[-1]) & (draw.top_p >= 1)

    def likeliest() -> jax.Array:
        order_BV = jnp.argsort(-logits_BV, axis=-1, stable=True)
        ranked_BV = jnp.take_along_axis(logits_BV, order_BV, axis=-1)
        ranked_BV = jnp.where(jnp.arange(ranked_BV.shape[-1]) < draw.top_k, ranked_BV, -jnp.inf)
        # A token stays if those before it hold less than top_p; the first always stays.
        shares_BV = jax.nn.softmax(ranked_BV)
        before_BV = jnp.cumsum(shares_BV, axis=-1) - shares_BV
        stays_BV = (before_BV < draw.top_p) | (draw.top_p >= 1)
        ranked_BV = jnp.where(stays_BV, ranked_BV, -jnp.inf)
        return jnp.take_along_axis(ranked_BV, jnp.argsort(order_BV, axis=-1), axis=-1)

    # Sorting a large vocabulary takes a good part of a small model's step.
    return jax.lax.cond(all_may_be_drawn, lambda: logits_BV, likeliest)
