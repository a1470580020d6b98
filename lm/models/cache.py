"""What a decoder keeps of the tokens that it has read: every layer's keys and values.

Rows end at the same place, whatever their lengths: shorter ones have empty places before their
text. So the next token of all rows comes to one place, and distances within a row are those
between places.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.config import ModelConfig
from lm.layout import Layout
from lm.shapes import HiddenBTD

KeysValues = tuple[jax.Array, jax.Array]
"""Keys and values of one layer, both [B, S, G, K]."""


class Memory(NamedTuple):
    """What the layers of a decoder read of an encoder.

    Attributes:
      keys_LBSGK, values_LBSGK: of its hidden states, by cross-attention.
      segments_BS: int32 segment ids of these.
    """

    keys_LBSGK: Float[jax.Array, 'L B S G K']
    values_LBSGK: Float[jax.Array, 'L B S G K']
    segments_BS: Int[jax.Array, 'B S']


class Cache(NamedTuple):
    """Keys and values of the places read so far, and room for more.

    Attributes:
      keys_LBSGK, values_LBSGK: of self-attention, in the dtype of the computation.
      segments_BS: int32, 1 where a place holds a token.
      place: int32, where the next token comes.
      memory: of an encoder; None where there is none.
    """

    keys_LBSGK: Float[jax.Array, 'L B S G K']
    values_LBSGK: Float[jax.Array, 'L B S G K']
    segments_BS: Int[jax.Array, 'B S']
    place: Int[jax.Array, '']
    memory: Memory | None = None

    @property
    def lengths_B(self) -> Int[jax.Array, ' B']:
        """Tokens of each row so far: the position of its next one."""
        return self.segments_BS.sum(1, dtype=jnp.int32)

    def taking(self, segments_BT: Int[jax.Array, 'B T']) -> 'Cache':
        """The cache with the next T places given to tokens, or left empty where they are 0."""
        at = (0, self.place)
        return self._replace(
            segments_BS=jax.lax.dynamic_update_slice(self.segments_BS, segments_BT, at)
        )

    def written(self, layer: Int[jax.Array, ''], made: KeysValues) -> 'Cache':
        """The cache with keys and values [B, T, G, K] of a layer at the next T places."""
        at = (layer, 0, self.place, 0, 0)
        keys, values = (
            jax.lax.dynamic_update_slice(kept, new[None].astype(kept.dtype), at)
            for kept, new in zip((self.keys_LBSGK, self.values_LBSGK), made, strict=True)
        )
        return self._replace(keys_LBSGK=keys, values_LBSGK=values)

    def reordered(self, rows_B: Int[jax.Array, ' C']) -> 'Cache':
        """The cache of other rows: C of those that there are, some of them more than once."""
        memory = self.memory
        if memory is not None:
            keys, values = (jnp.take(x, rows_B, axis=1) for x in memory[:2])
            memory = Memory(keys, values, jnp.take(memory.segments_BS, rows_B, axis=0))
        return Cache(
            jnp.take(self.keys_LBSGK, rows_B, axis=1),
            jnp.take(self.values_LBSGK, rows_B, axis=1),
            jnp.take(self.segments_BS, rows_B, axis=0),
            self.place,
            memory,
        )

    def of_layer(self, layer: Int[jax.Array, '']) -> KeysValues:
        """Keys and values of a layer at all places."""
        return _of_layer(self.keys_LBSGK, layer), _of_layer(self.values_LBSGK, layer)

    def remembering(self, layer: Int[jax.Array, ''], made: KeysValues) -> 'Cache':
        """The cache with what a layer reads of the encoder."""
        assert self.memory is not None
        at = (layer, 0, 0, 0, 0)
        keys, values = (
            jax.lax.dynamic_update_slice(kept, new[None].astype(kept.dtype), at)
            for kept, new in zip(self.memory[:2], made, strict=True)
        )
        return self._replace(memory=Memory(keys, values, self.memory.segments_BS))

    def remembered(self, layer: Int[jax.Array, '']) -> KeysValues:
        """What a layer reads of the encoder."""
        assert self.memory is not None
        return (
            _of_layer(self.memory.keys_LBSGK, layer),
            _of_layer(self.memory.values_LBSGK, layer),
        )


class LayerCache:
    """A layer's part of a cache while the layer runs: it takes what the layer makes.

    Attributes:
      cache: with what was made so far.
    """

    def __init__(self, cache: Cache, layer: Int[jax.Array, ''], *, first: bool):
        """
        Args:
          cache: of all layers.
          layer: its number.
          first: the tokens are the first of their rows, so that there is nothing else to see, and
            the encoder has just been read.
        """
        self.cache, self._layer, self._first = cache, layer, first

    def own(self, make: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values that self-attention sees."""
        made = make()
        self.cache = self.cache.written(self._layer, made)
        return made if self._first else self.cache.of_layer(self._layer)

    def memory(self, make: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values that cross-attention sees."""
        if self._first:
            self.cache = self.cache.remembering(self._layer, make())
        return self.cache.remembered(self._layer)


def empty_cache(
    config: ModelConfig,
    x_BTD: HiddenBTD,
    places: int,
    layout: Layout,
    memory_segments_BS: Int[jax.Array | np.ndarray, 'B S'] | None = None,
) -> Cache:
    """A cache of a decoder before it has read anything.

    Args:
      config: of the model.
      x_BTD: what it will read first: as many rows, of this dtype, on these devices.
      places: S, tokens that a row may come to, empty places before it included.
      layout: where it lies: rows as those of activations, groups as heads.
      memory_segments_BS: segment ids of what the encoder reads, where there is one.
    """
    rows = len(x_BTD)
    nothing_B = jnp.zeros_like(x_BTD[:, 0, 0])

    def zeros(places: int) -> jax.Array:
        shape = (config.num_layers, rows, places, config.kv_heads, config.head_width)
        empty = jnp.broadcast_to(nothing_B[None, :, None, None, None], shape)
        return layout.constrain(empty, 'LBSGK')

    memory = None
    if memory_segments_BS is not None:
        read = memory_segments_BS.shape[1]
        memory = Memory(zeros(read), zeros(read), jnp.asarray(memory_segments_BS, jnp.int32))
    empty_BS = layout.constrain(jnp.zeros((rows, places), jnp.int32), 'BS')
    return Cache(zeros(places), zeros(places), empty_BS, jnp.int32(0), memory)


def _of_layer(x_LBSGK: jax.Array, layer: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x_LBSGK, layer, keepdims=False)
