"""Left-to-right decoding of several texts at once: prompts are read in one pass, then token by
token in one compiled loop.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Key

from lm.batch import Batch
from lm.generation.reading import Afresh, Kept, Reading
from lm.generation.sampling import Draw, Sampling, choose
from lm.models.functional import Functional
from lm.processes import whole
from lm.shapes import Params

_MULTIPLE = 64  # rows are made this much longer at most, so that few lengths are compiled


def padded_length(length: int, most: int | None = None) -> int:
    """The length to compile for: the next multiple of 64, and no more than `most`."""
    padded = -(-length // _MULTIPLE) * _MULTIPLE
    return padded if most is None else min(padded, most)


class Decoded(NamedTuple):
    """What was added to each row.

    Attributes:
      tokens_BN: int32; behind an end, all of a row is the first of the ends.
      log_probs_BN: of each of these tokens before temperature and restrictions; 0 behind an end.
    """

    tokens_BN: Int[np.ndarray, 'B N']
    log_probs_BN: Float[np.ndarray, 'B N']


class Limits(NamedTuple):
    """What may come.

    Attributes:
      forbidden: ids that are never chosen.
      ends: ids that end a row.
    """

    forbidden: jax.Array
    ends: jax.Array


Watch: TypeAlias = Callable[[Int[np.ndarray, 'B n']], Bool[np.ndarray, ' B']]
"""Hears of the tokens that were added to all rows so far, and says which rows are to end."""


class _Carry(NamedTuple):
    """Decoding between two tokens.

    Attributes:
      added: how many tokens were.
      tokens_BN, log_probs_BN: these, and room for more.
      done_B: rows that have come to an end.
      state: the reading's.
    """

    added: jax.Array
    tokens_BN: jax.Array
    log_probs_BN: jax.Array
    done_B: jax.Array
    state: Any


def decode(
    functional: Functional,
    params: Params,
    given: Sequence[Int[np.ndarray, ' _']],
    source: Batch | None = None,
    *,
    max_new_tokens: int,
    window: int,
    prefix: Sequence[int] | None = None,
    forbidden: Sequence[int],
    ends: Sequence[int],
    sampling: Sampling,
    keys_B: Key[jax.Array, ' B'],
    watch: Watch | None = None,
    every: int = 1,
) -> Decoded:
    """Adds tokens to rows until all have come to an end.

    Args:
      functional: the model; compiled once for all rows of about one length.
      params: its parameters.
      given: of each row the ids that it begins with, one at the least.
      source: what an encoder-decoder's encoder reads; None: the model is a decoder.
      max_new_tokens: N.
      window: positions that the model sees at most. Where rows grow beyond, older tokens are out of
        its sight; a model that keeps a state has read them all.
      prefix: so many ids of each row are seen both ways; None: the model was trained without.
      forbidden: ids that are never chosen.
      ends: ids that end a row.
      sampling: how a token is chosen.
      keys_B: one random key a row; token t of a row is drawn with fold_in(key, t), so it does not
        depend on the other rows.
      watch: hears of the tokens so far, and says which rows are to end; None: nobody does.
      every: so many tokens lie between two hearings.
    """
    reading, batch, places = read_by(functional, given, source, prefix, window, max_new_tokens)
    params, room = reading.ready(params), padded_length(max_new_tokens)
    limits = Limits(jnp.asarray(forbidden, jnp.int32), jnp.asarray(ends, jnp.int32))
    lengths_B = jnp.asarray([len(row) for row in given], jnp.int32)
    drawing = (limits, sampling.draw(), lengths_B, keys_B)
    carry = _begin(params, batch, *drawing, reading=reading, places=places + room, room=room)
    added = 1
    while watch is not None and added < max_new_tokens:
        # Copied: the next call takes the array's memory.
        ended_B = watch(np.array(whole(carry.tokens_BN))[:, :added])
        carry = carry._replace(done_B=carry.done_B | ended_B)
        if np.all(carry.done_B):
            break
        added = min(added + every, max_new_tokens)
        carry = _go_on(params, carry, jnp.int32(added), *drawing, reading=reading)
    carry = _go_on(params, carry, jnp.int32(max_new_tokens), *drawing, reading=reading)
    return Decoded(
        whole(carry.tokens_BN)[:, :max_new_tokens],
        whole(carry.log_probs_BN)[:, :max_new_tokens],
    )


def read_by(
    functional: Functional,
    given: Sequence[Int[np.ndarray, ' _']],
    source: Batch | None,
    prefix: Sequence[int] | None,
    window: int,
    max_new_tokens: int,
) -> tuple[Reading, Batch, int]:
    """How rows are read that grow by so many tokens; they themselves, and their places."""
    batch, places = right_aligned(given, source, prefix, window if functional.bounded else None)
    longest = max(map(len, given)) + max_new_tokens
    # The last token is never read.
    if functional.goes_on and not (functional.bounded and longest - 1 > window):
        return Kept(functional), batch, places
    return Afresh(functional, min(window, padded_length(longest))), batch, places


def right_aligned(
    given: Sequence[Int[np.ndarray, ' _']],
    source: Batch | None,
    prefix: Sequence[int] | None,
    most: int | None,
) -> tuple[Batch, int]:
    """Rows that end at the same place, as a model reads them, and how many places they have."""
    places = padded_length(max(map(len, given)), most)
    shape = (len(given), places)
    tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    seen_both_ways = np.zeros(shape, bool)
    for i, ids in enumerate(given):
        start = places - len(ids)
        tokens[i, start:], segments[i, start:] = ids, 1
        positions[i, start:] = np.arange(len(ids))
        if prefix is not None:
            seen_both_ways[i, start : start + prefix[i]] = True
    if source is None:
        batch = Batch(tokens, segments, positions)
        return (batch if prefix is None else batch._replace(prefix=seen_both_ways)), places
    sides = {
        'decoder_tokens': tokens,
        'decoder_segment_ids': segments,
        'decoder_positions': positions,
    }
    return source._replace(**sides), places


@partial(jax.jit, static_argnames=('reading', 'places', 'room'))
def _begin(
    params: Params,
    batch: Batch,
    limits: Limits,
    draw: Draw,
    lengths_B: jax.Array,
    keys_B: jax.Array,
    *,
    reading: Reading,
    places: int,
    room: int,
) -> _Carry:
    """Reads the prompts and adds the first token."""
    logits_BV, state = reading.read(params, batch, places)
    rows = len(lengths_B)
    carry = _Carry(
        jnp.int32(0),
        jnp.full((rows, room), limits.ends[0], jnp.int32),
        jnp.zeros((rows, room), jnp.float32),
        jnp.zeros(rows, bool),
        state,
    )
    return _added(carry, logits_BV, limits, draw, lengths_B, keys_B)


@partial(jax.jit, static_argnames='reading', donate_argnames='carry')
def _go_on(
    params: Params,
    carry: _Carry,
    until: jax.Array,
    limits: Limits,
    draw: Draw,
    lengths_B: jax.Array,
    keys_B: jax.Array,
    *,
    reading: Reading,
) -> _Carry:
    """Adds tokens until there are so many, or all rows have come to an end."""

    def running(carry: _Carry) -> jax.Array:
        return (carry.added < until) & ~jnp.all(carry.done_B)

    def one_more(carry: _Carry) -> _Carry:
        last_B = carry.tokens_BN[:, carry.added - 1]
        logits_BV, state = reading.advance(params, last_B, carry.state)
        carry = carry._replace(state=state)
        return _added(carry, logits_BV, limits, draw, lengths_B, keys_B)

    return jax.lax.while_loop(running, one_more, carry)


def _added(
    carry: _Carry,
    logits_BV: jax.Array,
    limits: Limits,
    draw: Draw,
    lengths_B: jax.Array,
    keys_B: jax.Array,
) -> _Carry:
    """The carry with one more token a row, chosen by its logits."""
    keys = jax.vmap(jax.random.fold_in)(keys_B, lengths_B + carry.added)
    allowed_BV = logits_BV.at[:, limits.forbidden].set(-jnp.inf)
    chosen_B = choose(allowed_BV, keys, draw).astype(jnp.int32)
    log_probs_BV = jax.nn.log_softmax(logits_BV)
    log_probs_B = jnp.take_along_axis(log_probs_BV, chosen_B[:, None], axis=1)[:, 0]
    chosen_B = jnp.where(carry.done_B, limits.ends[0], chosen_B)
    log_probs_B = jnp.where(carry.done_B, 0.0, log_probs_B)
    return carry._replace(
        added=carry.added + 1,
        tokens_BN=carry.tokens_BN.at[:, carry.added].set(chosen_B),
        log_probs_BN=carry.log_probs_BN.at[:, carry.added].set(log_probs_B),
        done_B=carry.done_B | jnp.isin(chosen_B, limits.ends),
    )
