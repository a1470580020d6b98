"""The encoder-decoder model: a decoder that also reads an encoder's hidden states."""

import jax
from flax import nnx
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.models.cache import Cache, empty_cache
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
        return self.decoder(
            self.embedding(batch.decoder_tokens, context),
            batch.decoder_segment_ids,
            batch.decoder_positions,
            context.part(1),
            self.encoded(batch, context),
            batch.segment_ids,
        )

    def encoded(self, batch: Batch, context: Context) -> HiddenBTD:
        """The encoder's hidden states."""
        return self.encoder(
            self.embedding(batch.tokens, context),
            batch.segment_ids,
            batch.positions,
            context.part(0),
        )

    def read(
        self, batch: Batch, places: int, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Cache]:
        """As of `Model`; the cache holds what each layer reads of the encoder, too."""
        assert batch.decoder_tokens is not None, 'an encoder-decoder reads decoder tokens too'
        assert batch.decoder_segment_ids is not None and batch.decoder_positions is not None
        x_BTD = self.embedding(batch.decoder_tokens, context)
        cache = empty_cache(
            self.decoder.spec.config, x_BTD, places, context.layout, batch.segment_ids
        )
        x_BTD, cache = self.decoder.read(
            x_BTD,
            batch.decoder_segment_ids,
            batch.decoder_positions,
            context,
            cache,
            self.encoded(batch, context),
        )
        return self.next_logits(x_BTD, context), cache

    def advance(
        self, tokens_B: Int[jax.Array, ' B'], state: Cache, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Cache]:
        """As of `Model`, of the decoder."""
        x_B1D = self.embedding(tokens_B[:, None], context)
        x_B1D, state = self.decoder.advance(x_B1D, context, state)
        return self.next_logits(x_B1D, context), state
