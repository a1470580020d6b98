"""Left-to-right decoding: a fresh forward pass for every token."""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from lm.generation.sampling import Sampling, choose
from lm.shapes import LogitsBTV


@runtime_checkable
class NextLogits(Protocol):
    """A model's forward pass; compared by value, so that equal ones are compiled once."""

    def __hash__(self) -> int: ...

    def __call__(self, inputs: Any, tokens_BT: Int[jax.Array, 'B T']) -> LogitsBTV:
        """Logits [B, T, V]; those of position t predict what follows it."""
        ...


def decode(
    next_logits: NextLogits,
    inputs: Any,
    tokens_BT: np.ndarray,
    lengths_B: np.ndarray,
    *,
    window: int,
    forbidden: list[int],
    eos_id: int,
    sampling: Sampling,
    keys_B: jax.Array,
) -> np.ndarray:
    """Fills rows to their right until they are full or every row has said eos.

    Args:
      next_logits: the model; static, so it is compiled once for a shape.
      inputs: handed to it: parameters, encoder rows.
      tokens_BT: int32 rows that begin with at least one given token; the rest is overwritten.
      lengths_B: int32, how many tokens of each row are given.
      window: positions the model sees at most; older tokens are out of its sight.
      forbidden: ids that are never chosen.
      eos_id: ends a row; what follows it is eos.
      sampling: how a token is chosen.
      keys_B: one random key a row; token t of a row is drawn with fold_in(key, t), so it does not
        depend on the other rows.

    Returns:
      int32 [B, T].
    """
    return np.asarray(
        _decode(
            inputs,
            jnp.asarray(tokens_BT, jnp.int32),
            jnp.asarray(lengths_B, jnp.int32),
            jnp.asarray(sorted(forbidden), jnp.int32),
            keys_B,
            next_logits=next_logits,
            window=min(window, tokens_BT.shape[1]),
            eos_id=eos_id,
            sampling=sampling,
        )
    )


@partial(jax.jit, static_argnames=('next_logits', 'window', 'eos_id', 'sampling'))
def _decode(
    inputs: Any,
    tokens_BT: jax.Array,
    lengths_B: jax.Array,
    forbidden: jax.Array,
    keys_B: jax.Array,
    *,
    next_logits: NextLogits,
    window: int,
    eos_id: int,
    sampling: Sampling,
) -> jax.Array:
    rows, total = tokens_BT.shape

    def running(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        place, _, done_B = carry
        return (place < total) & ~jnp.all(done_B)

    def advance(
        carry: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        place, tokens_BT, done_B = carry
        start = jnp.maximum(place - window, 0)
        seen_BW = jax.lax.dynamic_slice_in_dim(tokens_BT, start, window, axis=1)
        logits_BV = jax.lax.dynamic_index_in_dim(
            next_logits(inputs, seen_BW), place - 1 - start, axis=1, keepdims=False
        )
        logits_BV = logits_BV.at[:, forbidden].set(-jnp.inf)
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, place)
        chosen_B = jnp.where(done_B, eos_id, choose(logits_BV, keys, sampling)).astype(jnp.int32)
        given_B = place < lengths_B
        chosen_B = jnp.where(given_B, tokens_BT[:, place], chosen_B)
        done_B = done_B | (~given_B & (chosen_B == eos_id))
        return place + 1, tokens_BT.at[:, place].set(chosen_B), done_B

    begin = jnp.min(lengths_B)
    carry = (begin, tokens_BT, jnp.zeros(rows, bool))
    reached, tokens_BT, _ = jax.lax.while_loop(running, advance, carry)
    return jnp.where(jnp.arange(total) < reached, tokens_BT, eos_id)
