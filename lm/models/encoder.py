"""The encoder-only model: every position sees its whole segment."""

from flax import nnx

from lm.batch import Batch
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.label_head import LabelHead
from lm.models.model import Model
from lm.models.spec import TransformerSpec
from lm.models.stack import Stack
from lm.shapes import HiddenBTD


class EncoderModel(Model):
    """Embedding, a bidirectional stack, and a head for the token at each position or labels."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.encoder = Stack(spec, rngs, causal=False, crosses=False)
        if spec.config.predicts_labels:
            self.head = LabelHead(spec, rngs)
        else:
            self.head = Head(spec, rngs) if spec.head else None
        self.dropout = spec.config.dropout

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads, [B, T, D]."""
        x_BTD = self.embedding(batch.tokens, context)
        return self.encoder(
            x_BTD, batch.segment_ids, batch.positions, context, token_types_BT=batch.token_types
        )
