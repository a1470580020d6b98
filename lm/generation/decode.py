"""Left-to-right decoding: a fresh forward pass for every token, or one from the state so far."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Key

from lm.batch import Batch
from lm.generation.language_model import Forward, one_segment
from lm.generation.sampling import Sampling, choose
from lm.shapes import Params

_MULTIPLE = 64  # rows are made this much longer at most, so that few lengths are compiled

Carry: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, Any]
"""The next place, the rows, which of them are done, and the state of a model that keeps one."""


def padded_length(length: int, most: int | None = None) -> int:
    """The length to compile for: the next multiple of 64, and no more than `most`."""
    padded = -(-length // _MULTIPLE) * _MULTIPLE
    return padded if most is None else min(padded, most)


def decode(
    forward: Forward,
    params: Params,
    source: Batch | None,
    tokens_BT: Int[np.ndarray, 'B T'],
    lengths_B: Int[np.ndarray, ' B'],
    *,
    window: int,
    prefix: int | None = None,
    forbidden: list[int],
    ends: list[int],
    sampling: Sampling,
    keys_B: Key[jax.Array, ' B'],
) -> Int[np.ndarray, 'B T']:
    """Fills rows to their right until they are full or have come to an end.

    Args:
      forward: the model; compiled once for all rows of about one length.
      params: its parameters.
      source: what an encoder-decoder's encoder reads; None: the model is a decoder.
      tokens_BT: int32 rows that begin with at least one given token; the rest is overwritten.
      lengths_B: int32, how many tokens of each row are given.
      window: positions the model sees at most; older tokens are out of its sight. A model that
        keeps a state has read them all.
      prefix: so many tokens of each row are seen both ways; None: a decoder was trained without.
      forbidden: ids that are never chosen.
      ends: ids that end a row; behind one, all of a row is the first of them.
      sampling: how a token is chosen.
      keys_B: one random key a row; token t of a row is drawn with fold_in(key, t), so it does not
        depend on the other rows.

    Returns:
      int32 [B, T].
    """
    total = tokens_BT.shape[1]
    padded = padded_length(total)
    filled_BT = _decode(
        params,
        source,
        jnp.asarray(np.pad(tokens_BT, ((0, 0), (0, padded - total))), jnp.int32),
        jnp.asarray(lengths_B, jnp.int32),
        jnp.int32(total),
        jnp.asarray(forbidden, jnp.int32),
        jnp.asarray(ends, jnp.int32),
        keys_B,
        None if prefix is None else jnp.int32(prefix),
        forward=forward,
        window=min(window, padded),
        sampling=sampling,
    )
    return np.asarray(filled_BT)[:, :total]


@partial(jax.jit, static_argnames=('forward', 'window', 'sampling'))
def _decode(
    params: Params,
    source: Batch | None,
    tokens_BT: jax.Array,
    lengths_B: jax.Array,
    total: jax.Array,
    forbidden: jax.Array,
    ends: jax.Array,
    keys_B: jax.Array,
    prefix: jax.Array | None,
    *,
    forward: Forward,
    window: int,
    sampling: Sampling,
) -> jax.Array:
    def afresh(place: jax.Array, tokens_BT: jax.Array, state: None) -> tuple[jax.Array, None]:
        """Logits of the token at `place`, from the window before it."""
        start = jnp.maximum(place - window, 0)
        seen_BW = jax.lax.dynamic_slice_in_dim(tokens_BT, start, window, axis=1)
        reading = _reading(source, seen_BW)
        if prefix is not None:
            prefix_W = start + jnp.arange(window) < prefix
            reading = reading._replace(prefix=jnp.broadcast_to(prefix_W, seen_BW.shape))
        logits_BTV = forward(params, reading)
        at = place - 1 - start
        return jax.lax.dynamic_index_in_dim(logits_BTV, at, axis=1, keepdims=False), state

    def from_state(place: jax.Array, tokens_BT: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """The same of a model that keeps a state, which has read all before the last token."""
        return forward.advance(params, tokens_BT[:, place - 1], state)

    logits_at: Callable[..., tuple[jax.Array, Any]] = afresh
    first, state = jnp.min(lengths_B), None
    if forward.functional.keeps_state:
        logits_at = from_state
        first, state = jnp.int32(1), forward.functional.start(params, len(tokens_BT))

    def running(carry: Carry) -> jax.Array:
        place, _, done_B, _ = carry
        return (place < total) & ~jnp.all(done_B)

    def advance(carry: Carry) -> Carry:
        place, tokens_BT, done_B, state = carry
        logits_BV, state = logits_at(place, tokens_BT, state)
        logits_BV = logits_BV.at[:, forbidden].set(-jnp.inf)
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, place)
        chosen_B = jnp.where(done_B, ends[0], choose(logits_BV, keys, sampling))
        given_B = place < lengths_B
        chosen_B = jnp.where(given_B, tokens_BT[:, place], chosen_B.astype(jnp.int32))
        done_B = done_B | (~given_B & jnp.isin(chosen_B, ends))
        return place + 1, tokens_BT.at[:, place].set(chosen_B), done_B, state

    nothing_done_B = jnp.zeros(len(tokens_BT), bool)
    carry = (first, tokens_BT, nothing_done_B, state)
    reached, tokens_BT, _, _ = jax.lax.while_loop(running, advance, carry)
    return jnp.where(jnp.arange(tokens_BT.shape[1]) < reached, tokens_BT, ends[0])


def _reading(source: Batch | None, tokens_BT: jax.Array) -> Batch:
    """What the model reads: rows that are one text each, in its decoder if it has two sides.

    Tokens that are not decoded yet lie to the right, where a decoder does not look.
    """
    if source is None:
        return Batch(*one_segment(tokens_BT))
    tokens, segment_ids, positions = one_segment(tokens_BT)
    return source._replace(
        decoder_tokens=tokens, decoder_segment_ids=segment_ids, decoder_positions=positions
    )
