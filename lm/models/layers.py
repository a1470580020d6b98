"""One transformer layer, and many of them stacked: scanned or unrolled, rematerialised or not."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from lm.attention.kernel import KEEPS
from lm.models.apart import Index, are_apart, unstacked
from lm.models.attention import Attention, Kept, Pattern
from lm.models.context import PRODUCT, Context
from lm.models.feed_forward import FeedForward
from lm.models.norms import Norm
from lm.models.spec import TransformerSpec
from lm.shapes import HiddenBTD

Remat = Literal['none', 'full', 'dots', 'offload']

INPUT = 'layer_input'
"""Name of what a layer reads, for the policy that keeps it in the host's memory."""


def _is_no_gathering(primitive: Any, *_: Any, **params: Any) -> bool:
    """Whether an operation does more than to place an array: `Layout.weight` does not."""
    inner = params.get('call_jaxpr')
    if primitive.name == 'custom_vjp_call' and inner is not None:
        return any(_is_no_gathering(eqn.primitive) for eqn in inner.jaxpr.eqns)
    return primitive.name not in ('sharding_constraint', 'all_gather')


def _is_product(primitive: Any, *given: Any, **params: Any) -> bool:
    """Whether an operation is a product with weights, or what a kernel of attention gives."""
    if primitive.name == 'name':
        return params['name'] in (KEEPS, PRODUCT)
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    if primitive.name == 'dot_general' and given[0].dtype.itemsize == 1:
        return False  # without its scales, and wider than with them
    kept: bool = dots(primitive, *given, **params)
    return kept or primitive.name.startswith('dot_product_attention_fwd')


SAVED: dict[str, Callable[..., bool]] = {
    'full': jax.checkpoint_policies.nothing_saveable,
    'dots': _is_product,
    'offload': jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[INPUT],
        offload_src='device',
        offload_dst='pinned_host',
    ),
    'gathered': _is_no_gathering,
}
"""What each `model.remat` keeps for the backward pass; `dots` keeps the products with weights
and what a kernel of attention gives, which is dear too.

`offload` keeps a layer's input in the host's memory. `gathered` stands in for `none` where weights
are gathered: all but these is kept.
"""


class Layer(nnx.Module):
    """Self-attention, cross-attention where there is an encoder to read, feed-forward."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs, *, crosses: bool):
        self.attention = Attention(spec, rngs)
        self.attention_norm = Norm(spec) if spec.first_norm else None
        self.cross_attention = Attention(spec, rngs) if crosses else None
        self.cross_attention_norm = Norm(spec) if crosses else None
        self.feed_forward = FeedForward(spec, rngs)
        self.feed_forward_norm = Norm(spec)
        self.norm_first = spec.norm_first
        self.parallel = spec.parallel

    def __call__(
        self,
        x_BTD: HiddenBTD,
        pattern: Pattern,
        context: Context,
        memory_BSD: jax.Array | None = None,
        memory_pattern: Pattern | None = None,
        attention_norm: Callable[[jax.Array], jax.Array] | None = None,
        kept: Kept | None = None,
        memory_kept: Kept | None = None,
    ) -> HiddenBTD:
        """One layer.

        Args:
          x_BTD: the residual stream.
          pattern: of self-attention.
          context: the forward pass.
          memory_BSD: what the cross-attention reads; None: a cache has its keys and values.
          memory_pattern: of cross-attention.
          attention_norm: the norm before self-attention, of a layer that has none of its own.
          kept, memory_kept: of self- and cross-attention, where there is a cache.

        Returns:
          [B, T, D].
        """
        attention_norm = attention_norm or self.attention_norm
        assert attention_norm is not None

        def attend(h_BTD: jax.Array) -> jax.Array:
            return self.attention(h_BTD, h_BTD, pattern, context, kept)

        def cross(h_BTD: jax.Array) -> jax.Array:
            assert self.cross_attention is not None
            assert memory_pattern is not None
            return self.cross_attention(h_BTD, memory_BSD, memory_pattern, context, memory_kept)

        def feed(h_BTD: jax.Array) -> jax.Array:
            return self.feed_forward(h_BTD, context)

        if self.parallel:
            seen_BTD = context.drop(attend(attention_norm(x_BTD)), 0)
            fed_BTD = context.drop(feed(self.feed_forward_norm(x_BTD)), 2)
            return context.layout.constrain(x_BTD + seen_BTD + fed_BTD, 'BTD')
        x_BTD = self._residual(x_BTD, attention_norm, attend, context, site=0)
        if self.cross_attention_norm is not None:
            x_BTD = self._residual(x_BTD, self.cross_attention_norm, cross, context, site=1)
        x_BTD = self._residual(x_BTD, self.feed_forward_norm, feed, context, site=2)
        return context.layout.constrain(x_BTD, 'BTD')

    def _residual(
        self,
        x_BTD: jax.Array,
        norm: Callable[[jax.Array], jax.Array],
        sublayer: Callable[[jax.Array], jax.Array],
        context: Context,
        *,
        site: int,
    ) -> jax.Array:
        if self.norm_first:
            return x_BTD + context.drop(sublayer(norm(x_BTD)), site)
        return norm(x_BTD + context.drop(sublayer(x_BTD), site))


Step = Callable[[Any, Any, Index], Any]
"""A layer, what comes from the layer before and the layer's number -> what goes on to the
next: [B, T, D], and with a cache that too."""


def stacked_layers(spec: TransformerSpec, rngs: nnx.Rngs, *, crosses: bool) -> Layer:
    """All layers as one `Layer` whose arrays have a leading axis L, each layer from its own key."""
    keys = jax.random.split(rngs.params(), spec.config.num_layers)
    return jax.vmap(lambda key: Layer(spec, nnx.Rngs(key), crosses=crosses))(keys)


def run_layers(
    layers: nnx.Module,
    x: Any,
    step: Step,
    *,
    num_layers: int,
    scan: bool,
    unroll: int,
    remat: Remat,
    gathers: bool = False,
) -> Any:
    """`x` through `step(layer, x, index)` for each of the stacked layers in turn.

    Args:
      layers: arrays with a leading axis of `num_layers`, or `Apart`, which are not scanned.
      x: what the first layer reads, [B, T, D]; with a cache that too.
      step: one layer's work.
      num_layers: L.
      scan: one `lax.scan` instead of L copies of the layer's code.
      unroll: copies of the layer's code in a scan's body; divides L.
      remat: what the backward pass recomputes.
      gathers: weights are gathered for each layer; the backward pass gathers them anew.
    """
    saved = 'gathered' if gathers and remat == 'none' else remat
    if saved == 'offload':
        step = _naming_its_input(step)
    if saved != 'none':
        # A scan's body is compiled once, so nothing can be shared across the barrier anyway.
        step = jax.checkpoint(step, policy=SAVED[saved], prevent_cse=not scan)
    if runs_in_turn(layers, scan):
        # The numbers are known as it is traced: what is kept for each layer can lie apart too.
        for index, layer in enumerate(unstacked(layers, num_layers)):
            x = step(layer, x, index)
        return x
    indices = jnp.arange(num_layers, dtype=jnp.int32)
    return jax.lax.scan(
        lambda x, layer: (step(layer[0], x, layer[1]), None), x, (layers, indices), unroll=unroll
    )[0]


def runs_in_turn(layers: nnx.Module, scan: bool) -> bool:
    """Whether each layer has its own code: it is asked for, or the stacks were taken apart."""
    return not scan or are_apart(layers)


def _naming_its_input(step: Step) -> Step:
    def named(layer: nnx.Module, x: Any, index: Index) -> Any:
        x = jax.tree.map(lambda leaf: checkpoint_name(leaf, INPUT), x)
        return step(layer, x, index)

    return named
