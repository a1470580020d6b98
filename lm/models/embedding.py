"""Tokens in, logits out: the two ends that the vocabulary touches."""

from functools import partial
from typing import NamedTuple, TypeAlias

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
        return jnp.take(context.table(self.tokens), tokens_BT, axis=0).astype(context.dtype)


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
        h_BTD = x_BTD @ context.cast(self.weight)
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
        weight_DV = context.cast(embedding.tokens).T
        if self.output is not None:
            weight_DV = context.cast(self.output)
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        product = Product(dtype, precision)
        logits_BTV = _scores(x_BTD, weight_DV, product)
        if self.bias is not None:
            logits_BTV += self.bias[...].astype(dtype)
        padded = logits_BTV.shape[-1]
        if padded > self.tokens:
            logits_BTV = jnp.where(jnp.arange(padded) < self.tokens, logits_BTV, -jnp.inf)
        return context.layout.constrain(logits_BTV, 'BTV')


class Product(NamedTuple):
    """How x W is computed, forwards and backwards.

    Attributes:
      dtype: of its sums.
      precision: of its factors.
    """

    dtype: DTypeLike
    precision: str | None

    def of(self, equation: str, *factors: jax.Array) -> jax.Array:
        """The product of the factors that an equation says."""
        return jnp.einsum(
            equation, *factors, preferred_element_type=self.dtype, precision=self.precision
        )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _scores(x_BTD: jax.Array, weight_DV: jax.Array, product: Product) -> LogitsBTV:
    """x W, whose backward pass reads the gradient of the logits as it lies.

    That array is the step's largest. XLA:CPU would write it a second time, transposed, for the
    matrix's gradient, and for that keep the softmax apart as well: a fifth of a small model's step.
    """
    return product.of('BTD,DV->BTV', x_BTD, weight_DV)


def _scores_forward(
    x_BTD: jax.Array, weight_DV: jax.Array, product: Product
) -> tuple[LogitsBTV, tuple[jax.Array, jax.Array]]:
    return product.of('BTD,DV->BTV', x_BTD, weight_DV), (x_BTD, weight_DV)


def _scores_backward(
    product: Product, kept: tuple[jax.Array, jax.Array], gradient_BTV: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_autodiff(
        x_BTD: jax.Array, weight_DV: jax.Array, gradient_BTV: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(partial(product.of, 'BTD,DV->BTV'), x_BTD, weight_DV)[1](gradient_BTV)

    def on_a_cpu(
        x_BTD: jax.Array, weight_DV: jax.Array, gradient_BTV: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        # The small factor is transposed, behind a barrier that keeps it so.
        x_DBT = jax.lax.optimization_barrier(jnp.moveaxis(x_BTD, -1, 0))
        weight_gradient_DV = product.of('DBT,BTV->DV', x_DBT, gradient_BTV)
        x_gradient_BTD = by_autodiff(x_BTD, weight_DV, gradient_BTV)[0]
        return x_gradient_BTD, weight_gradient_DV.astype(weight_DV.dtype)

    return jax.lax.platform_dependent(*kept, gradient_BTV, cpu=on_a_cpu, default=by_autodiff)


_scores.defvjp(_scores_forward, _scores_backward)


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
