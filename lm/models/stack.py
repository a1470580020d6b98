"""One side of a model: embedded tokens in, hidden states out."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

from lm.layout import Layout
from lm.models.apart import Index
from lm.models.attention import Pattern
from lm.models.cache import Cache, LayerCache, empty_cache
from lm.models.context import Context
from lm.models.layers import Layer, run_layers, runs_in_turn, stacked_layers
from lm.models.norms import Norm
from lm.models.positions import (
    LearnedPositions,
    RelativePositions,
    Rotation,
    linear_bias,
    linear_bias_towards,
    rotation,
    sinusoids,
)
from lm.models.spec import TransformerSpec
from lm.shapes import HiddenBTD, TokensBT

EMBEDDING_DROPOUT_SITE, FINAL_DROPOUT_SITE = 0, 1


class Stack(nnx.Module):
    """The encoder, or the decoder: positions, layers and norms round them.

    Its arrays of all layers are stacked along a leading axis L. Dropout keys: part 0 of the
    context for the sites outside the layers, part i + 1 for layer i.
    """

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs, *, causal: bool, crosses: bool):
        self.learned_positions = (
            LearnedPositions(spec, rngs) if spec.positions.kind == 'learned' else None
        )
        self.relative_positions = (
            RelativePositions(spec, rngs, causal=causal)
            if spec.positions.kind == 'relative'
            else None
        )
        self.token_types = _token_types(spec, rngs) if spec.token_types else None
        self.embedding_norm = Norm(spec) if spec.embedding_norm else None
        self.layers = stacked_layers(spec, rngs, crosses=crosses)
        inner_norms = not spec.first_norm and spec.config.num_layers > 1
        self.inner_attention_norm = Norm(spec, 'ID') if inner_norms else None
        self.final_norm = Norm(spec) if spec.norm_first else None
        self.causal = causal
        self.spec = spec

    def __call__(
        self,
        x_BTD: HiddenBTD,
        segments_BT: TokensBT,
        positions_BT: TokensBT,
        context: Context,
        memory_BSD: Float[jax.Array, 'B S D'] | None = None,
        memory_segments_BS: Int[jax.Array | np.ndarray, 'B S'] | None = None,
        prefix_BT: Bool[jax.Array | np.ndarray, 'B T'] | None = None,
        token_types_BT: TokensBT | None = None,
    ) -> HiddenBTD:
        """Hidden states of embedded tokens.

        Args:
          x_BTD: the tokens' embeddings.
          segments_BT: int32 segment ids.
          positions_BT: int32 positions within segments.
          context: the forward pass.
          memory_BSD: the encoder's hidden states, for a stack that reads them.
          memory_segments_BS: their segment ids.
          prefix_BT: the positions that a causal stack's earlier ones see too.
          token_types_BT: int32, rows of the table of token types; None: all 0.
        """
        segments_BT, positions_BT = jnp.asarray(segments_BT), jnp.asarray(positions_BT)
        prefix_BT = None if prefix_BT is None else jnp.asarray(prefix_BT)
        memory_pattern = _reading(segments_BT, memory_segments_BS)
        pattern = self._pattern(segments_BT, positions_BT, prefix_BT)
        x_BTD = self._embed(x_BTD, positions_BT, context.part(0), token_types_BT)
        return self._run(x_BTD, pattern, positions_BT, context, memory_BSD, memory_pattern)[0]

    def empty_cache(
        self,
        x_BTD: HiddenBTD,
        places: int,
        layout: Layout,
        memory_segments_BS: Int[jax.Array | np.ndarray, 'B S'] | None = None,
    ) -> Cache:
        """A cache before anything was read; arguments as of `lm.models.cache.empty_cache`."""
        config = self.spec.config
        apart = runs_in_turn(self.layers, config.scan_layers)
        return empty_cache(config, x_BTD, places, layout, memory_segments_BS, apart=apart)

    def read(
        self,
        x_BTD: HiddenBTD,
        segments_BT: TokensBT,
        positions_BT: TokensBT,
        context: Context,
        cache: Cache,
        memory_BSD: Float[jax.Array, 'B S D'] | None = None,
        prefix_BT: Bool[jax.Array | np.ndarray, 'B T'] | None = None,
    ) -> tuple[HiddenBTD, Cache]:
        """Hidden states of the first tokens of rows, and the cache with what was computed.

        Args:
          x_BTD, positions_BT, context, memory_BSD, prefix_BT: as of a call.
          segments_BT: 1 at tokens, 0 at the empty places before a shorter row's.
          cache: an empty one.
        """
        segments_BT, positions_BT = jnp.asarray(segments_BT), jnp.asarray(positions_BT)
        prefix_BT = None if prefix_BT is None else jnp.asarray(prefix_BT)
        cache = cache.taking(segments_BT)
        memory_pattern = _reading(segments_BT, cache.memory and cache.memory.segments_BS)
        pattern = self._pattern(segments_BT, positions_BT, prefix_BT)
        x_BTD = self._embed(x_BTD, positions_BT, context)
        x_BTD, held = self._run(
            x_BTD, pattern, positions_BT, context, memory_BSD, memory_pattern, cache
        )
        assert held is not None
        return x_BTD, held._replace(place=cache.place + positions_BT.shape[1])

    def advance(
        self, x_B1D: Float[jax.Array, 'B 1 D'], context: Context, cache: Cache
    ) -> tuple[Float[jax.Array, 'B 1 D'], Cache]:
        """Hidden states of one more token a row, which sees what the cache holds."""
        positions_B1 = cache.lengths_B[:, None]
        one_B1 = jnp.ones_like(positions_B1)
        cache = cache.taking(one_B1)
        memory_pattern = _reading(one_B1, cache.memory and cache.memory.segments_BS)
        pattern = self._pattern_of_next(cache, positions_B1)
        x_B1D = self._embed(x_B1D, positions_B1, context)
        x_B1D, held = self._run(
            x_B1D, pattern, positions_B1, context, None, memory_pattern, cache, first=False
        )
        assert held is not None
        return x_B1D, held._replace(place=cache.place + 1)

    def _run(
        self,
        x_BTD: jax.Array,
        pattern: Pattern,
        positions_BT: jax.Array,
        context: Context,
        memory_BSD: jax.Array | None,
        memory_pattern: Pattern | None,
        cache: Cache | None = None,
        *,
        first: bool = True,
    ) -> tuple[jax.Array, Cache | None]:
        """The layers and the norm behind them; with a cache, what they made is in it."""
        local_turn = self._local_turn(positions_BT)

        def step(
            layer: Layer, carry: tuple[jax.Array, Cache | None], index: Index
        ) -> tuple[jax.Array, Cache | None]:
            x_BTD, cache = carry
            part, own = context.part(index + 1), self._of_layer(pattern, local_turn, index)
            norm = None if self.spec.first_norm else partial(self._inner_norm, index=index)
            if cache is None:
                return layer(x_BTD, own, part, memory_BSD, memory_pattern, norm), None
            if not first:
                own = _within(own, cache.place)
            kept = LayerCache(cache, index, first=first)
            x_BTD = layer(x_BTD, own, part, memory_BSD, memory_pattern, norm, kept.own, kept.memory)
            return x_BTD, kept.cache

        config = self.spec.config
        x_BTD, cache = run_layers(
            self.layers,
            (x_BTD, cache),
            step,
            num_layers=config.num_layers,
            scan=config.scan_layers,
            unroll=config.scan_unroll,
            remat=config.remat if cache is None else 'none',
            gathers=context.layout.gathers_weights and cache is None,
        )
        if self.final_norm is not None:
            x_BTD = self.final_norm(x_BTD)
        if self.spec.dropout_inside:
            x_BTD = context.part(0).drop(x_BTD, FINAL_DROPOUT_SITE)
        return x_BTD, cache

    def _embed(
        self,
        x_BTD: jax.Array,
        positions_BT: jax.Array,
        context: Context,
        token_types_BT: TokensBT | None = None,
    ) -> jax.Array:
        if self.learned_positions is not None:
            x_BTD += self.learned_positions(positions_BT, context)
        if self.spec.positions.kind == 'sinusoidal':
            x_BTD += sinusoids(positions_BT, x_BTD.shape[-1]).astype(context.dtype)
        if self.token_types is not None:
            # A table of one row, as RoBERTa's, tells nothing apart.
            if token_types_BT is None or self.spec.token_types == 1:
                x_BTD += context.cast(self.token_types)[0]
            else:
                x_BTD += context.rows(self.token_types, jnp.asarray(token_types_BT))
        if self.embedding_norm is not None:
            x_BTD = self.embedding_norm(x_BTD)
        return context.layout.constrain(context.drop(x_BTD, EMBEDDING_DROPOUT_SITE), 'BTD')

    def _pattern(
        self, segments_BT: jax.Array, positions_BT: jax.Array, prefix_BT: jax.Array | None
    ) -> Pattern:
        bias_HTS, turn = None, None
        if self.relative_positions is not None:
            bias_HTS = self.relative_positions(segments_BT.shape[1])
        if self.spec.positions.kind == 'alibi':
            bias_HTS = linear_bias(self.spec.config.num_heads, segments_BT.shape[1])
        if self.spec.positions.kind == 'rope':
            turn = rotation(positions_BT, self.spec.rotary_width, self.spec.positions)
        window = self.spec.attention_window
        return Pattern(segments_BT, segments_BT, self.causal, bias_HTS, turn, window, prefix_BT)

    def _pattern_of_next(self, cache: Cache, positions_B1: jax.Array) -> Pattern:
        """Of one token a row, at the cache's next place: it sees what is held, itself too."""
        bias_H1S, turn, places = None, None, cache.segments_BS.shape[1]
        if self.relative_positions is not None:
            bias_H1S = self.relative_positions.towards(cache.place, places)
        if self.spec.positions.kind == 'alibi':
            bias_H1S = linear_bias_towards(self.spec.config.num_heads, cache.place, places)
        if self.spec.positions.kind == 'rope':
            turn = rotation(positions_B1, self.spec.rotary_width, self.spec.positions)
        one_B1, window = jnp.ones_like(positions_B1), self.spec.attention_window
        return Pattern(one_B1, cache.segments_BS, False, bias_H1S, turn, window)

    def _local_turn(self, positions_BT: jax.Array) -> Rotation | None:
        """The rotation of layers that see a window, where it is not that of the others."""
        positions = self.spec.positions
        if positions.kind != 'rope' or positions.local_rope_theta is None:
            return None
        positions = dataclasses.replace(positions, rope_theta=positions.local_rope_theta)
        return rotation(positions_BT, self.spec.rotary_width, positions)

    def _of_layer(self, pattern: Pattern, local_turn: Rotation | None, index: Index) -> Pattern:
        """What differs from layer to layer: those that see all, and those that see a window."""
        if not self.spec.global_every or pattern.window is None:
            return pattern
        sees_all = index % self.spec.global_every == 0
        turn = pattern.rotation
        if local_turn is not None:
            turn = jax.tree.map(partial(jnp.where, sees_all), turn, local_turn)
        window = jnp.where(sees_all, pattern.segments_BS.shape[1], pattern.window)
        return dataclasses.replace(pattern, rotation=turn, window=window)

    def _inner_norm(self, x_BTD: jax.Array, index: Index) -> jax.Array:
        """What the attention of layer `index` reads, where the first norms nothing."""
        if self.inner_attention_norm is None:
            return x_BTD
        normed_BTD = self.inner_attention_norm(x_BTD, jnp.maximum(index - 1, 0))
        return jnp.where(index > 0, normed_BTD, x_BTD)


def _reading(
    segments_BT: jax.Array, memory_segments_BS: jax.Array | np.ndarray | None
) -> Pattern | None:
    """How a decoder's tokens read the encoder's of their segments; None: there are none."""
    if memory_segments_BS is None:
        return None
    return Pattern(segments_BT, jnp.asarray(memory_segments_BS), causal=False)


def _within(pattern: Pattern, place: jax.Array) -> Pattern:
    """The pattern of a token at `place` with its window told by segments.

    A kernel counts a window from a row's own first place, which is not the cache's.
    """
    if pattern.window is None:
        return pattern
    places = jnp.arange(pattern.segments_BS.shape[1])
    seen_BS = jnp.where(places > place - pattern.window, pattern.segments_BS, 0)
    return dataclasses.replace(pattern, segments_BS=seen_BS, window=None)


def _token_types(spec: TransformerSpec, rngs: nnx.Rngs) -> nnx.Param:
    shape = (spec.token_types, spec.config.d_model)
    return nnx.Param(spec.init.tokens(rngs.params(), shape, jnp.float32), dims='YD')
