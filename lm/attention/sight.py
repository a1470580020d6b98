"""Which keys a query sees, and what enters the scores beside their product."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from lm.shapes import MaskBTS


@dataclass(frozen=True)
class Sight:
    """Query t sees key s of its own segment and, if causal, s <= t by place in the row.

    Attributes:
      segments_BT, segments_BS: int32 segment ids of queries and keys; one array where queries have
        their own keys. A segment is a stretch of neighbours; 0 is padding.
      causal: later keys are hidden.
      window: of the keys up to the query's own place only this many, the nearest, are seen; not
        causal, of those from it on too. Causal, it is an int.
      prefix_BS: later keys that are seen although causal; None: none is.
      bias_HTS: added to the scaled scores, [H or 1, T, S].
      scale: factor on the scores.
      shift: the first query's place in the row less the first key's, an int or a traced one.
    """

    segments_BT: Int[jax.Array, 'B T']
    segments_BS: Int[jax.Array, 'B S']
    causal: bool
    scale: float
    window: int | jax.Array | None = None
    prefix_BS: Bool[jax.Array, 'B S'] | None = None
    bias_HTS: Float[jax.Array, 'h T S'] | None = None
    shift: int | jax.Array = 0

    @property
    def own_keys(self) -> bool:
        """Whether queries and keys are of the same row: self-attention."""
        return self.segments_BS is self.segments_BT

    @property
    def is_stretch(self) -> bool:
        """Whether a query sees one stretch of its segment whose width is known when compiling."""
        plain = self.window is None or (self.causal and isinstance(self.window, int))
        return self.own_keys and self.prefix_BS is None and plain

    @property
    def mask_BTS(self) -> MaskBTS:
        """What each query sees, written out."""
        length, keys = self.segments_BT.shape[1], self.segments_BS.shape[1]
        mask_BTS = self.segments_BT[:, :, None] == self.segments_BS[:, None, :]
        # How far in front of a query a key is.
        ahead_TS = jnp.arange(keys) - (self.shift + jnp.arange(length))[:, None]
        if self.causal:
            seen_BTS = (ahead_TS <= 0)[None]
            if self.prefix_BS is not None:
                seen_BTS |= self.prefix_BS[:, None, :]
            mask_BTS &= seen_BTS
        if self.window is not None and self.causal:
            assert isinstance(self.window, int), 'a causal window is the same in all layers'
            mask_BTS &= ahead_TS > -self.window
        elif self.window is not None:
            mask_BTS &= jnp.abs(ahead_TS) < self.window
        return mask_BTS

    def keys_of(self, queries: slice) -> slice:
        """The least stretch of keys with all that any of these queries sees, as far as is known.

        It has one key at least.
        """
        length = self.segments_BS.shape[1]
        first, last = 0, length
        if self.causal and self.prefix_BS is None:
            last = min(last, queries.stop + self.shift)
        if isinstance(self.window, int):
            first = max(0, queries.start + self.shift - self.window + 1)
            if not self.causal:
                last = min(last, queries.stop + self.shift + self.window - 1)
        first = min(first, length - 1)
        return slice(first, max(last, first + 1))

    def cut(self, queries: slice, keys: slice) -> 'Sight':
        """What these queries see of these keys."""
        return replace(
            self,
            segments_BT=self.segments_BT[:, queries],
            segments_BS=self.segments_BS[:, keys],
            prefix_BS=None if self.prefix_BS is None else self.prefix_BS[:, keys],
            bias_HTS=None if self.bias_HTS is None else self.bias_HTS[:, queries, keys],
            shift=self.shift + queries.start - keys.start,
        )
