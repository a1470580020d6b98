"""How a model reads a text that grows: from what it kept of it, or all of it afresh each time."""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.models.functional import Functional
from lm.shapes import Params

LogitsAndState: TypeAlias = tuple[Float[jax.Array, 'B V'], Any]
"""fp32 logits of the token after each row, and what is needed to go on."""


@dataclass(frozen=True)
class Kept:
    """From keys and values, or a recurrent state: each token is read once."""

    functional: Functional

    def ready(self, params: Params) -> Params:
        """The parameters as they are read fastest.

        On a CPU that is with stacked layers apart: each step would copy them out of their stacks,
        which takes longer than to multiply with them. Both forms are held meanwhile.
        """
        [platform] = {device.platform for x in jax.tree.leaves(params) for device in x.devices()}
        return self.functional.apart(params) if platform == 'cpu' else params

    def read(self, params: Params, batch: Batch, places: int) -> LogitsAndState:
        """Reads rows that end at the last place; they may come to so many places.

        The state has `reordered`, which makes it that of other rows.
        """
        return self.functional.read(params, batch, places)

    def advance(self, params: Params, tokens_B: Int[jax.Array, ' B'], state: Any) -> LogitsAndState:
        """Reads one more token of each row."""
        return self.functional.advance(params, tokens_B, state)


class Seen(NamedTuple):
    """Rows as they are read afresh.

    Attributes:
      tokens_BS, segments_BS: int32; the segment is 1 of a token and 0 of an empty place.
      prefix_BS: bool, tokens that are seen both ways; None: the model was trained without.
      place: int32, where the next token comes.
      source: what an encoder reads; None: there is none.
    """

    tokens_BS: jax.Array
    segments_BS: jax.Array
    prefix_BS: jax.Array | None
    place: jax.Array
    source: Batch | None

    def reordered(self, rows_B: Int[jax.Array, ' C']) -> 'Seen':
        """The same of other rows: C of those that there are, some of them more than once."""

        def chosen(x: Any) -> Any:
            return jax.tree.map(lambda leaf: jnp.take(leaf, rows_B, axis=0), x)

        return Seen(
            chosen(self.tokens_BS),
            chosen(self.segments_BS),
            chosen(self.prefix_BS),
            self.place,
            chosen(self.source),
        )


@dataclass(frozen=True)
class Afresh:
    """By a forward pass over the last `window` places for each token.

    Tokens before these are out of sight, and positions count from the first that is seen: so rows
    may grow beyond what a model can see at once. It is also how a user's own model is read, which
    has no other way.
    """

    functional: Functional
    window: int

    def ready(self, params: Params) -> Params:
        """As of `Kept`."""
        return params

    def read(self, params: Params, batch: Batch, places: int) -> LogitsAndState:
        """As of `Kept`."""
        tokens, segment_ids, prefix, source = batch.tokens, batch.segment_ids, batch.prefix, None
        if batch.decoder_tokens is not None:
            assert batch.decoder_segment_ids is not None
            tokens, segment_ids, prefix = batch.decoder_tokens, batch.decoder_segment_ids, None
            source = batch
        room = ((0, 0), (self.window, places - tokens.shape[1]))
        seen = Seen(
            jnp.pad(jnp.asarray(tokens), room),
            jnp.pad(jnp.asarray(segment_ids), room),
            None if prefix is None else jnp.pad(jnp.asarray(prefix), room),
            jnp.int32(self.window + tokens.shape[1]),
            source,
        )
        return self._logits(params, seen), seen

    def advance(self, params: Params, tokens_B: Int[jax.Array, ' B'], state: Any) -> LogitsAndState:
        """As of `Kept`."""
        seen = state._replace(
            tokens_BS=state.tokens_BS.at[:, state.place].set(tokens_B),
            segments_BS=state.segments_BS.at[:, state.place].set(1),
            place=state.place + 1,
        )
        return self._logits(params, seen), seen

    def _logits(self, params: Params, seen: Seen) -> Float[jax.Array, 'B V']:
        def window(x_BS: jax.Array) -> jax.Array:
            start = seen.place - self.window
            return jax.lax.dynamic_slice_in_dim(x_BS, start, self.window, axis=1)

        tokens_BW, segments_BW = window(seen.tokens_BS), window(seen.segments_BS)
        positions_BW = jnp.maximum(jnp.cumsum(segments_BW, axis=1) - 1, 0)
        if seen.source is None:
            batch = Batch(tokens_BW, segments_BW, positions_BW)
            if seen.prefix_BS is not None:
                batch = batch._replace(prefix=window(seen.prefix_BS))
        else:
            batch = seen.source._replace(
                decoder_tokens=tokens_BW,
                decoder_segment_ids=segments_BW,
                decoder_positions=positions_BW,
            )
        last_B1 = jnp.full((len(tokens_BW), 1), self.window - 1, jnp.int32)
        return self.functional.apply(params, batch, asked_BA=last_B1)[:, 0]


Reading: TypeAlias = Kept | Afresh
"""What decoding asks of a model; hashable, for it decides what is compiled."""
