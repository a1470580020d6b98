"""Tokens in, logits out: the two ends that the vocabulary touches."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from lm.models.context import Context
from lm.models.feed_forward import activated
from lm.models.norms import Norm
from lm.models.recurrent_spec import RecurrentSpec
from lm.models.spec import Initializer, TransformerSpec
from lm.shapes import HiddenBTD, LogitsBTV, TokensBT

Spec: TypeAlias = TransformerSpec | RecurrentSpec
"""What has an embedding and a head."""


class Embedding(nnx.Module):
    """One vector a token. Rows beyond the vocabulary are padding: zero, and never trained."""

    def __init__(self, spec: Spec, rngs: nnx.Rngs):
        config = spec.config
        shape = (config.padded_vocab_size, config.d_model)
        table_VD = _unpadded(spec.init.tokens, rngs, shape, 0, config.tokens)
        self.tokens = nnx.Param(table_VD, dims='VD')

    def __call__(self, tokens_BT: TokensBT, context: Context) -> HiddenBTD:
        """Vectors of the tokens, [B, T, D]. An id outside the table gives NaN, not a neighbour."""
        return context.rows(self.tokens, jnp.asarray(tokens_BT))


class Transform(nnx.Module):
    """norm(act(x W + b)): BERT's masked-language-model head before its output matrix."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        d = spec.config.d_model
        self.weight = nnx.Param(spec.init.head(rngs.params(), (d, d), jnp.float32), dims='DD')
        self.bias = nnx.Param(jnp.zeros((d,)), dims='D') if spec.biases else None
        self.norm = Norm(spec)
        self.activation = spec.activation

    def __call__(self, x_BTD: HiddenBTD, context: Context) -> HiddenBTD:
        """[B, T, D] -> [B, T, D]."""
        h_BTD = context.product('BTD,DE->BTE', x_BTD, self.weight)
        if self.bias is not None:
            h_BTD += context.cast(self.bias)
        return self.norm(activated(self.activation, h_BTD))


class Head(nnx.Module):
    """Hidden states to logits, by a matrix of its own or by the embedding's."""

    def __init__(self, spec: Spec, rngs: nnx.Rngs):
        config = spec.config
        self.transform = (
            Transform(spec, rngs)
            if isinstance(spec, TransformerSpec) and spec.head_transform
            else None
        )
        self.output = None if spec.tied else _output(spec, rngs)
        bias_V = jnp.zeros((config.padded_vocab_size,))
        self.bias = nnx.Param(bias_V, dims='V') if spec.head_bias else None
        self.scale = spec.head_scale
        self.tokens = config.tokens

    def __call__(
        self,
        x_BTD: HiddenBTD,
        embedding: Embedding,
        context: Context,
        dtype: DTypeLike = jnp.float32,
    ) -> LogitsBTV:
        """[B, T, D] -> [B, T, V] of `dtype`; logits of the vocabulary's padding are -inf."""
        if self.transform is not None:
            x_BTD = self.transform(x_BTD, context)
        if self.scale != 1:
            x_BTD *= self.scale
        if self.output is None:
            logits_BTV = context.product('BTD,VD->BTV', x_BTD, embedding.tokens, dtype)
        else:
            logits_BTV = context.product('BTD,DV->BTV', x_BTD, self.output, dtype)
        if self.bias is not None:
            logits_BTV += self.bias[...].astype(dtype)
        padded = logits_BTV.shape[-1]
        if padded > self.tokens:
            logits_BTV = jnp.where(jnp.arange(padded) < self.tokens, logits_BTV, -jnp.inf)
        return context.layout.constrain(logits_BTV, 'BTV')


def _output(spec: Spec, rngs: nnx.Rngs) -> nnx.Param:
    shape = (spec.config.d_model, spec.config.padded_vocab_size)
    return nnx.Param(_unpadded(spec.init.head, rngs, shape, 1, spec.config.tokens), dims='DV')


def _unpadded(
    init: Initializer, rngs: nnx.Rngs, shape: tuple[int, int], axis: int, tokens: int
) -> jax.Array:
    """A matrix with its vocabulary along `axis`, zero from `tokens` on."""
    matrix = init(rngs.params(), shape, jnp.float32)
    place = jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    return jnp.where(place < tokens, matrix, 0)
