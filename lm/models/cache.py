"""What a decoder keeps of the tokens that it has read: every layer's keys and values.

Rows end at the same place, whatever their lengths: shorter ones have empty places before their
text. So the next token of all rows comes to one place, and distances within a row are those
between places.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.config import ModelConfig
from lm.layout import Layout
from lm.models.apart import Apart, Index
from lm.shapes import HiddenBTD

KeysValues = tuple[jax.Array, jax.Array]
"""Keys and values of one layer, both [B, S, G, K]."""


Layers: TypeAlias = Float[jax.Array, 'L B G S K'] | Apart
"""Of all layers, [L, B, G, S, K]; apart where each layer has its own code: then nothing is copied
out of a stack. Groups come first, as products of each group read them."""


class Memory(NamedTuple):
    """What the layers of a decoder read of an encoder.

    Attributes:
      keys, values: of its hidden states, by cross-attention.
      segments_BS: int32 segment ids of these.
    """

    keys: Layers
    values: Layers
    segments_BS: Int[jax.Array, 'B S']


class Cache(NamedTuple):
    """Keys and values of the places read so far, and room for more.

    Attributes:
      keys, values: of self-attention, in the dtype of the computation.
      segments_BS: int32, 1 where a place holds a token.
      place: int32, where the next token comes.
      memory: of an encoder; None where there is none.
    """

    keys: Layers
    values: Layers
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

    def written(self, layer: Index, made: KeysValues) -> 'Cache':
        """The cache with keys and values [B, T, G, K] of a layer at the next T places."""
        keys, values = made
        return self._replace(
            keys=_written(self.keys, layer, self.place, keys),
            values=_written(self.values, layer, self.place, values),
        )

    def of_layer(self, layer: Index) -> KeysValues:
        """Keys and values of a layer at all places."""
        return _of_layer(self.keys, layer), _of_layer(self.values, layer)

    def remembering(self, layer: Index, made: KeysValues) -> 'Cache':
        """The cache with what a layer reads of the encoder."""
        assert self.memory is not None
        keys, values = made
        memory = self.memory._replace(
            keys=_written(self.memory.keys, layer, 0, keys),
            values=_written(self.memory.values, layer, 0, values),
        )
        return self._replace(memory=memory)

    def remembered(self, layer: Index) -> KeysValues:
        """What a layer reads of the encoder."""
        assert self.memory is not None
        return _of_layer(self.memory.keys, layer), _of_layer(self.memory.values, layer)

    def reordered(self, rows_B: Int[jax.Array, ' C']) -> 'Cache':
        """The cache of other rows: C of those that there are, some of them more than once."""

        def chosen(x: jax.Array, axis: int = 0) -> jax.Array:
            return jnp.take(x, rows_B, axis=axis)

        def of_layers(x: Layers) -> Layers:
            return jax.tree.map(chosen, x) if isinstance(x, Apart) else chosen(x, 1)

        memory = self.memory
        if memory is not None:
            keys, values = of_layers(memory.keys), of_layers(memory.values)
            memory = Memory(keys, values, chosen(memory.segments_BS))
        keys, values = of_layers(self.keys), of_layers(self.values)
        return Cache(keys, values, chosen(self.segments_BS), self.place, memory)


class LayerCache:
    """A layer's part of a cache while the layer runs: it takes what the layer makes.

    Attributes:
      cache: with what was made so far.
    """

    def __init__(self, cache: Cache, layer: Index, *, first: bool):
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
    *,
    apart: bool,
) -> Cache:
    """A cache of a decoder before it has read anything.

    Args:
      config: of the model.
      x_BTD: what it will read first: as many rows, of this dtype, on these devices.
      places: S, tokens that a row may come to, empty places before it included.
      layout: where it lies: rows as those of activations, groups as heads.
      memory_segments_BS: segment ids of what the encoder reads, where there is one.
      apart: the layers lie apart, not in a stack.
    """
    rows = len(x_BTD)
    nothing_B = jnp.zeros_like(x_BTD[:, 0, 0])

    def zeros(places: int) -> Layers:
        shape = (rows, config.kv_heads, places, config.head_width)
        empty = jnp.broadcast_to(nothing_B[:, None, None, None], shape)
        if apart:
            return Apart((layout.constrain(empty, 'BGSK'),) * config.num_layers)
        stacked = jnp.broadcast_to(empty, (config.num_layers, *shape))
        return layout.constrain(stacked, 'LBGSK')

    memory = None
    if memory_segments_BS is not None:
        read = memory_segments_BS.shape[1]
        memory = Memory(zeros(read), zeros(read), jnp.asarray(memory_segments_BS, jnp.int32))
    empty_BS = layout.constrain(jnp.zeros((rows, places), jnp.int32), 'BS')
    return Cache(zeros(places), zeros(places), empty_BS, jnp.int32(0), memory)


def _of_layer(kept: Layers, layer: Index) -> Float[jax.Array, 'B S G K']:
    if isinstance(kept, Apart):
        assert isinstance(layer, int)
        return jnp.swapaxes(kept.layers[layer], 1, 2)
    return jnp.swapaxes(jax.lax.dynamic_index_in_dim(kept, layer, keepdims=False), 1, 2)


def _written(
    kept: Layers, layer: Index, place: jax.Array | int, new_BTGK: Float[jax.Array, 'B T G K']
) -> Layers:
    new_BGTK = jnp.swapaxes(new_BTGK, 1, 2)
    if isinstance(kept, Apart):
        assert isinstance(layer, int)
        of_all, old_BGSK = list(kept.layers), kept.layers[layer]
        of_all[layer] = jax.lax.dynamic_update_slice(
            old_BGSK, new_BGTK.astype(old_BGSK.dtype), (0, 0, place, 0)
        )
        return Apart(tuple(of_all))
    new = new_BGTK[None].astype(kept.dtype)
    return jax.lax.dynamic_update_slice(kept, new, (layer, 0, 0, place, 0))
