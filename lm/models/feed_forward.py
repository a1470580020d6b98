"""The feed-forward layer, plain or gated."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from lm.models.context import Context
from lm.models.spec import TransformerSpec
from lm.shapes import HiddenBTD

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': partial(jax.nn.gelu, approximate=False),
    'gelu_tanh': partial(jax.nn.gelu, approximate=True),
    'relu': jax.nn.relu,
    'silu': jax.nn.silu,
}

HIDDEN_DROPOUT_SITE = 3
"""After a layer's three residual branches, 0 to 2."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def activated(name: str, x: jax.Array) -> jax.Array:
    """An activation that keeps its input alone for the backward pass, and computes the rest anew.

    Its own intermediate results would be as large as the input each, to be written and read.
    """
    return ACTIVATIONS[name](x)


def _activated_backward(name: str, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    given: tuple[jax.Array] = jax.vjp(ACTIVATIONS[name], x)[1](gradient)
    return given


activated.defvjp(lambda name, x: (ACTIVATIONS[name](x), x), _activated_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def gated(name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
    """x * act(gate), as `activated`."""
    return x * ACTIVATIONS[name](gate)


def _gated_backward(
    name: str, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    pull = jax.vjp(lambda x, gate: x * ACTIVATIONS[name](gate), *kept)[1]
    given: tuple[jax.Array, jax.Array] = pull(gradient)
    return given


gated.defvjp(lambda name, x, gate: (x * ACTIVATIONS[name](gate), (x, gate)), _gated_backward)


class FeedForward(nnx.Module):
    """act(x W_up) W_down (Vaswani et al. 2017, section 3.3).

    Gated: (act(x W_gate) * x W_up) W_down (Shazeer 2020, equation 6): SwiGLU with SiLU, GEGLU
    with GELU.
    """

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        d, f = spec.config.d_model, spec.feed_forward_width
        wide, narrow = spec.init.feed_forward_in, spec.init.feed_forward_out
        fp32 = jnp.float32
        self.gate = nnx.Param(wide(rngs.params(), (d, f), fp32), dims='DF') if spec.gated else None
        self.up = nnx.Param(wide(rngs.params(), (d, f), fp32), dims='DF')
        self.down = nnx.Param(narrow(rngs.params(), (f, d), fp32), dims='FD')
        self.up_bias = nnx.Param(jnp.zeros((f,)), dims='F') if spec.biases else None
        self.down_bias = nnx.Param(jnp.zeros((d,)), dims='D') if spec.biases else None
        self.activation = spec.activation
        self.dropout_inside = spec.dropout_inside

    def __call__(self, x_BTD: HiddenBTD, context: Context) -> HiddenBTD:
        """[B, T, D] -> [B, T, D]."""
        h_BTF = context.product('BTD,DF->BTF', x_BTD, self.up)
        if self.up_bias is not None:
            h_BTF += context.cast(self.up_bias)
        if self.gate is None:
            h_BTF = activated(self.activation, h_BTF)
        else:
            gate_BTF = context.product('BTD,DF->BTF', x_BTD, self.gate)
            h_BTF = gated(self.activation, h_BTF, gate_BTF)
        h_BTF = context.layout.constrain(h_BTF, 'BTF')
        if self.dropout_inside:
            h_BTF = context.drop(h_BTF, HIDDEN_DROPOUT_SITE)
        y_BTD = context.product('BTF,FD->BTD', h_BTF, self.down)
        return y_BTD if self.down_bias is None else y_BTD + context.cast(self.down_bias)
