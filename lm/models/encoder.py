"""The encoder-only model: every position sees its whole segment."""

import jax
from flax import nnx
from jax.typing import DTypeLike

from lm.batch import Batch
from lm.config import require
from lm.layout import Layout
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.spec import TransformerSpec
from lm.models.stack import Stack
from lm.shapes import HiddenBTD, LogitsBTV


class EncoderModel(nnx.Module):
    """Embedding, a bidirectional stack, and a head that predicts the token at each position."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.encoder = Stack(spec, rngs, causal=False, crosses=False)
        self.head = Head(spec, rngs) if spec.head else None
        self.dropout = spec.config.dropout

    def __call__(
        self,
        batch: Batch,
        *,
        layout: Layout,
        compute_dtype: DTypeLike,
        dropout_key: jax.Array | None = None,
    ) -> LogitsBTV:
        """fp32 logits [B, T, V] for `batch.tokens`."""
        require(
            self.head is not None,
            'model.options.head=False: this encoder ends at its hidden states and has no logits',
        )
        assert self.head is not None
        context = Context(layout, compute_dtype, self.dropout, dropout_key)
        return self.head(self.hidden(batch, context), self.embedding, context)

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads, [B, T, D]."""
        x_BTD = self.embedding(batch.tokens, context)
        return self.encoder(x_BTD, batch.segment_ids, batch.positions, context)
