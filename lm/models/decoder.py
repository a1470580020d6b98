"""The decoder-only model: a position sees what came before it in its segment, and the prefix."""

import jax
from flax import nnx
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.models.cache import Cache
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

    def read(
        self, batch: Batch, places: int, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Cache]:
        """As of `Model`; the state is a cache of keys and values."""
        x_BTD = self.embedding(batch.tokens, context)
        cache = self.decoder.empty_cache(x_BTD, places, context.layout)
        x_BTD, cache = self.decoder.read(
            x_BTD, batch.segment_ids, batch.positions, context, cache, prefix_BT=batch.prefix
        )
        return self.next_logits(x_BTD, context), cache

    def advance(
        self, tokens_B: Int[jax.Array, ' B'], state: Cache, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Cache]:
        """As of `Model`."""
        x_B1D = self.embedding(tokens_B[:, None], context)
        x_B1D, state = self.decoder.advance(x_B1D, context, state)
        return self.next_logits(x_B1D, context), state
