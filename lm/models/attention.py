"""Multi-head attention with grouped keys and values."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from lm.models.cache import KeysValues
from lm.models.context import Context
from lm.models.norms import Norm
from lm.models.positions import Rotation, rotate
from lm.models.spec import TransformerSpec
from lm.shapes import HiddenBTD


@dataclass(frozen=True)
class Pattern:
    """Which keys a query sees, and how places enter the scores.

    Attributes:
      segments_BT, segments_BS: segment ids of queries and keys; attention stays within equal ids.
      causal: later keys are hidden.
      bias_HTS: added to the scores.
      rotation: turns queries and keys.
      window: a query sees this many places, its own and those before it; not causal, as many behind
        it too; None: all.
      prefix_BS: keys that all queries of their segment see, though causal; None: there is none.
    """

    segments_BT: jax.Array
    segments_BS: jax.Array
    causal: bool
    bias_HTS: jax.Array | None = None
    rotation: Rotation | None = None
    window: int | jax.Array | None = None
    prefix_BS: jax.Array | None = None


Kept = Callable[[Callable[[], KeysValues]], KeysValues]
"""What is asked for the keys and values to see, given what makes those of the tokens at hand."""


class Attention(nnx.Module):
    """softmax(scale * Q K^T + bias) V, then the output matrix (Vaswani et al. 2017, section 3.2).

    Groups of H / G query heads share one key and value head (Ainslie et al. 2023, section 2.2).
    Queries and keys may be normed head by head (Dehghani et al. 2023, section 2). Attention
    probabilities are not dropped: fused kernels never hold them.
    """

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        config, init = spec.config, spec.init
        d, h, g, k = config.d_model, config.num_heads, config.kv_heads, config.head_width
        fp32 = jnp.float32
        self.query = nnx.Param(init.query(rngs.params(), (d, h, k), fp32), dims='DHK')
        self.key = nnx.Param(init.key_value(rngs.params(), (d, g, k), fp32), dims='DGK')
        self.value = nnx.Param(init.key_value(rngs.params(), (d, g, k), fp32), dims='DGK')
        self.output = nnx.Param(init.attention_output(rngs.params(), (h, k, d), fp32), dims='HKD')
        biases = spec.biases or spec.qkv_biases
        self.query_bias = nnx.Param(jnp.zeros((h, k)), dims='HK') if biases else None
        self.key_bias = nnx.Param(jnp.zeros((g, k)), dims='GK') if biases else None
        self.value_bias = nnx.Param(jnp.zeros((g, k)), dims='GK') if biases else None
        self.output_bias = nnx.Param(jnp.zeros((d,)), dims='D') if spec.biases else None
        self.query_norm = Norm(spec, 'K') if spec.qk_norm else None
        self.key_norm = Norm(spec, 'K') if spec.qk_norm else None
        self.scale = spec.attention_scale

    def __call__(
        self,
        x_BTD: HiddenBTD,
        source_BSD: Float[jax.Array, 'B S D'] | None,
        pattern: Pattern,
        context: Context,
        kept: Kept | None = None,
    ) -> HiddenBTD:
        """Queries from `x_BTD`, keys and values from `source_BSD` -> [B, T, D].

        `kept` is asked for the keys and values to see, and may have those of `source_BSD` made;
        without it these are seen.
        """
        layout = context.layout
        q_BTHK = _heads(x_BTD, self.query, self.query_bias, context)
        if self.query_norm is not None:
            q_BTHK = self.query_norm(q_BTHK)
        if pattern.rotation is not None:
            q_BTHK = rotate(q_BTHK, pattern.rotation)

        def make() -> KeysValues:
            assert source_BSD is not None
            return self._keys_values(source_BSD, pattern, context)

        k_BSGK, v_BSGK = make() if kept is None else kept(make)
        seen_BTHK = layout.attend(
            layout.constrain(q_BTHK, 'BTHK'),
            layout.constrain(k_BSGK, 'BSGK'),
            layout.constrain(v_BSGK, 'BSGK'),
            segments_BT=pattern.segments_BT,
            segments_BS=pattern.segments_BS,
            causal=pattern.causal,
            window=pattern.window,
            prefix_BS=pattern.prefix_BS,
            bias_HTS=pattern.bias_HTS,
            scale=self.scale,
        )
        y_BTD = context.product('BTHK,HKD->BTD', seen_BTHK, self.output)
        return y_BTD if self.output_bias is None else y_BTD + context.cast(self.output_bias)

    def _keys_values(
        self, source_BSD: Float[jax.Array, 'B S D'], pattern: Pattern, context: Context
    ) -> KeysValues:
        """Both [B, S, G, K]."""
        k_BSGK = _heads(source_BSD, self.key, self.key_bias, context)
        v_BSGK = _heads(source_BSD, self.value, self.value_bias, context)
        if self.key_norm is not None:
            k_BSGK = self.key_norm(k_BSGK)
        if pattern.rotation is not None:
            k_BSGK = rotate(k_BSGK, pattern.rotation)
        return k_BSGK, v_BSGK


def _heads(
    x_BTD: jax.Array, weight: nnx.Param, bias: nnx.Param | None, context: Context
) -> jax.Array:
    y_BTHK = context.product('BTD,DHK->BTHK', x_BTD, weight)
    return y_BTHK if bias is None else y_BTHK + context.cast(bias)
