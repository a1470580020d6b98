"""The encoder-decoder model: a decoder that also reads an encoder's hidden states."""

from flax import nnx

from lm.batch import Batch
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.model import Model
from lm.models.spec import TransformerSpec
from lm.models.stack import Stack
from lm.shapes import HiddenBTD


class EncoderDecoderModel(Model):
    """Two stacks over one token embedding; decoder segments read encoder segments of their id."""

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.encoder = Stack(spec, rngs, causal=False, crosses=False)
        self.decoder = Stack(spec, rngs, causal=True, crosses=True)
        self.head = Head(spec, rngs)
        self.dropout = spec.config.dropout

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads: the decoder's, [B, T, D]."""
        assert batch.decoder_tokens is not None, 'an encoder-decoder reads decoder tokens too'
        assert batch.decoder_segment_ids is not None and batch.decoder_positions is not None
        memory_BSD = self.encoder(
            self.embedding(batch.tokens, context),
            batch.segment_ids,
            batch.positions,
            context.part(0),
        )
        return self.decoder(
            self.embedding(batch.decoder_tokens, context),
            batch.decoder_segment_ids,
            batch.decoder_positions,
            context.part(1),
            memory_BSD,
            batch.segment_ids,
        )
