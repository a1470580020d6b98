"""The encoder-only model: every position sees its whole segment."""

from flax import nnx

from lm.batch import Batch
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.model import Model
from lm.models.spec import TransformerSpec
from lm.models.stack import Stack
from lm.shapes import HiddenBTD


class EncoderModel(Model):
    """Embedding, a bidirectional stack, and a head that predicts the token at each position."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.encoder = Stack(spec, rngs, causal=False, crosses=False)
        self.head = Head(spec, rngs) if spec.head else None
        self.dropout = spec.config.dropout

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads, [B, T, D]."""
        x_BTD = self.embedding(batch.tokens, context)
        return self.encoder(x_BTD, batch.segment_ids, batch.positions, context)
