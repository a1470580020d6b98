"""Hidden states to labels: what fine-tuning puts in the place of a head for tokens.

Devlin et al. 2019, section 4: a row is told by its first token, whose state goes through the
pooler, tanh(x W + b), as in BERT's released code; tokens and spans are told by their own states.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from lm.models.context import Context
from lm.models.embedding import Embedding
from lm.models.spec import TransformerSpec
from lm.shapes import HiddenBTD

CLASSIFIER_DROPOUT_SITE = 2
"""Of part 0 of the context, which has the sites of the stack outside its layers too."""


class Pooler(nnx.Module):
    """tanh(x W + b) of a row's first state."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        d = spec.config.d_model
        self.weight = nnx.Param(spec.init.head(rngs.params(), (d, d), jnp.float32), dims='DD')
        self.bias = nnx.Param(jnp.zeros((d,)), dims='D')

    def __call__(self, x_BTD: HiddenBTD, context: Context) -> Float[jax.Array, 'B 1 D']:
        """[B, T, D] -> [B, 1, D]."""
        h_BTD = context.product('BTD,DE->BTE', x_BTD[:, :1], self.weight)
        return jnp.tanh(h_BTD + context.cast(self.bias))


class LabelHead(nnx.Module):
    """Logits of labels: of the row as `model.head=sequence`, else of each place.

    While training, states are dropped before it, but for spans, as in BERT's released code.
    """

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        config = spec.config
        self.drops = config.head != 'span'
        self.pooler = Pooler(spec, rngs) if config.head == 'sequence' else None
        shape = (config.d_model, config.labels)
        self.weight = nnx.Param(spec.init.head(rngs.params(), shape, jnp.float32), dims='DO')
        self.bias = nnx.Param(jnp.zeros((config.labels,)), dims='O')

    def __call__(
        self,
        x_BTD: HiddenBTD,
        embedding: Embedding,
        context: Context,
        dtype: DTypeLike = jnp.float32,
    ) -> Float[jax.Array, 'B _ O']:
        """[B, T, D] -> [B, 1, O] of a row's label, or [B, T, O], in `dtype`."""
        del embedding
        if self.pooler is not None:
            x_BTD = self.pooler(x_BTD, context)
        if self.drops:
            x_BTD = context.part(0).drop(x_BTD, CLASSIFIER_DROPOUT_SITE)
        logits_BTO = context.product('BTD,DO->BTO', x_BTD, self.weight, dtype)
        return logits_BTO + self.bias[...].astype(dtype)
