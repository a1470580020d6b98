"""Beam search: the likeliest continuations that a search of bounded width finds.

A beam is a continuation that goes on; the K likeliest of all ways to go on from K beams are the
next ones. One that comes to its end is put aside, scored by its log-probability over its length to
a power, if it is among the K likeliest. A text is done when the best beam, so scored, is no better
than the worst of K that were put aside (Wu et al. 2016, section 7; as `transformers` searches with
`early_stopping=False`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.config import require
from lm.generation.decode import Limits, padded_length, read_by
from lm.generation.reading import Reading
from lm.models.functional import Functional
from lm.processes import whole
from lm.shapes import Params

_NONE = -1e9
"""Score of a beam that is not there."""


class Found(NamedTuple):
    """The continuations of each text, best first.

    Attributes:
      tokens_BKN: int32; behind an end, all of a row is the first of the ends.
      scores_BK: log-probability over length ** length_penalty; -1e9 where there is none.
    """

    tokens_BKN: Int[np.ndarray, 'B K N']
    scores_BK: Float[np.ndarray, 'B K']


class _Search(NamedTuple):
    """A search between two tokens.

    Attributes:
      added: tokens of each beam.
      beams_BKN, log_probs_BK: those that go on, the likeliest first.
      ended_BKN, scores_BK: those that were put aside, the best first.
      open_B: texts for which better may come.
      state: the reading's, of B x K rows.
    """

    added: jax.Array
    beams_BKN: jax.Array
    log_probs_BK: jax.Array
    ended_BKN: jax.Array
    scores_BK: jax.Array
    open_B: jax.Array
    state: Any


def beam_search(
    functional: Functional,
    params: Params,
    given: Sequence[Int[np.ndarray, ' _']],
    source: Batch | None = None,
    *,
    num_beams: int,
    length_penalty: float = 1.0,
    max_new_tokens: int,
    window: int,
    prefix: Sequence[int] | None = None,
    forbidden: Sequence[int],
    ends: Sequence[int],
) -> Found:
    """Searches for the likeliest continuations.

    Args:
      functional: as of `decode`, as is all that follows but for two.
      params: the model's.
      given: ids of each row.
      source: of an encoder-decoder.
      num_beams: K.
      length_penalty: power of the length that log-probabilities are divided by; above 0 longer
        texts gain.
      max_new_tokens: the most that are added.
      window: places that are seen at once.
      prefix: of each row, how much is seen both ways.
      forbidden: ids that are never said.
      ends: ids that end a text.

    Raises:
      UserError: fewer than one beam, or more than there are tokens.
    """
    vocabulary = functional.config.padded_vocab_size
    kept = max(2, 1 + len(ends))
    require(
        num_beams >= 1 and kept * num_beams <= vocabulary - len(forbidden),
        f'num_beams={num_beams}: between 1 and a {kept}th of the vocabulary',
    )
    reading, batch, places = read_by(functional, given, source, prefix, window, max_new_tokens)
    limits = Limits(jnp.asarray(forbidden, jnp.int32), jnp.asarray(ends, jnp.int32))
    params, room = reading.ready(params), padded_length(max_new_tokens)
    found = _search(
        params, batch, limits, jnp.float32(length_penalty), jnp.int32(max_new_tokens),
        reading=reading, places=places + room, room=room, beams=num_beams, kept=kept * num_beams,
    )  # fmt: skip
    tokens_BKN, scores_BK = map(whole, found)
    return Found(tokens_BKN[:, :, :max_new_tokens], scores_BK)


@partial(jax.jit, static_argnames=('reading', 'places', 'room', 'beams', 'kept'))
def _search(
    params: Params,
    batch: Batch,
    limits: Limits,
    length_penalty: jax.Array,
    most: jax.Array,
    *,
    reading: Reading,
    places: int,
    room: int,
    beams: int,
    kept: int,
) -> tuple[jax.Array, jax.Array]:
    logits_BV, state = reading.read(params, batch, places)
    texts = len(logits_BV)
    each_B = jnp.repeat(jnp.arange(texts), beams)
    nothing_BKN = jnp.full((texts, beams, room), limits.ends[0], jnp.int32)
    # All beams of a text begin alike, so that one of them counts.
    alone_BK = jnp.full((texts, beams), _NONE).at[:, 0].set(0.0)
    search = _Search(
        jnp.int32(0), nothing_BKN, alone_BK, nothing_BKN, jnp.full((texts, beams), _NONE),
        jnp.ones(texts, bool), state.reordered(each_B),
    )  # fmt: skip

    def step(search: _Search, logits_CV: jax.Array) -> _Search:
        return _one_more(search, logits_CV, limits, length_penalty, most, kept)

    def going(search: _Search) -> jax.Array:
        return (search.added < most) & jnp.any(search.open_B)

    def turn(search: _Search) -> _Search:
        last_C = search.beams_BKN[:, :, search.added - 1].reshape(-1)
        logits_CV, state = reading.advance(params, last_C, search.state)
        return step(search._replace(state=state), logits_CV)

    search = step(search, jnp.take(logits_BV, each_B, axis=0))
    search = jax.lax.while_loop(going, turn, search)
    return search.ended_BKN, search.scores_BK


def _one_more(
    search: _Search,
    logits_CV: jax.Array,
    limits: Limits,
    length_penalty: jax.Array,
    most: jax.Array,
    kept: int,
) -> _Search:
    """The search with one more token of each beam."""
    texts, beams = search.log_probs_BK.shape
    log_probs_CV = jax.nn.log_softmax(logits_CV).at[:, limits.forbidden].set(-jnp.inf)
    vocabulary = log_probs_CV.shape[-1]
    ways_BKV = search.log_probs_BK[:, :, None] + log_probs_CV.reshape(texts, beams, vocabulary)
    # As many as make sure that K of them go on, whichever come to an end.
    log_probs_BW, ways_BW = jax.lax.top_k(ways_BKV.reshape(texts, -1), kept)
    from_BW, token_BW = ways_BW // vocabulary, ways_BW % vocabulary
    rows_BWN = jnp.take_along_axis(search.beams_BKN, from_BW[:, :, None], axis=1)
    rows_BWN = rows_BWN.at[:, :, search.added].set(token_BW)
    added = search.added + 1
    ends_BW = jnp.isin(token_BW, limits.ends) | (added == most)

    length = added.astype(jnp.float32) ** length_penalty
    may_end_BW = ends_BW & (jnp.arange(kept) < beams) & search.open_B[:, None]
    new_BW = jnp.where(may_end_BW, log_probs_BW / length, _NONE)
    all_scores = jnp.concatenate([search.scores_BK, new_BW], axis=1)
    all_rows = jnp.concatenate([search.ended_BKN, rows_BWN], axis=1)
    scores_BK, best_BK = jax.lax.top_k(all_scores, beams)
    ended_BKN = jnp.take_along_axis(all_rows, best_BK[:, :, None], axis=1)

    going_BW = jnp.where(ends_BW, _NONE, log_probs_BW)
    log_probs_BK, on_BK = jax.lax.top_k(going_BW, beams)
    came_from_BK = jnp.take_along_axis(from_BW, on_BK, axis=1)
    rows_C = (jnp.arange(texts)[:, None] * beams + came_from_BK).reshape(-1)
    better_may_come_B = log_probs_BK[:, 0] / length > scores_BK[:, -1]
    return _Search(
        added,
        jnp.take_along_axis(rows_BWN, on_BK[:, :, None], axis=1),
        log_probs_BK,
        ended_BKN,
        scores_BK,
        search.open_B & better_may_come_B,
        search.state.reordered(rows_C),
    )
