"""The decoder-only model: a position sees what came before it in its segment, and the prefix."""

from flax import nnx

from lm.batch import Batch
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.model import Model
from lm.models.spec import TransformerSpec
from lm.models.stack import Stack
from lm.shapes import HiddenBTD


class DecoderModel(Model):
    """Embedding, a causal stack, and a head that predicts the token after each position."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.decoder = Stack(spec, rngs, causal=True, crosses=False)
        self.head = Head(spec, rngs)
        self.dropout = spec.config.dropout

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads, [B, T, D]."""
        x_BTD = self.embedding(batch.tokens, context)
        return self.decoder(
            x_BTD, batch.segment_ids, batch.positions, context, prefix_BT=batch.prefix
        )
