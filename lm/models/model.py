"""What all models have in common: from a batch to logits, through their hidden states."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.config import require
from lm.layout import Layout
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.label_head import LabelHead
from lm.precision.policy import Quantization
from lm.shapes import HiddenBTD, LogitsBTV


class Model(nnx.Module):
    """A token embedding, what a family makes of it (`hidden`), and a head.

    Attributes:
      embedding: of the tokens.
      head: None where the model ends at its hidden states.
      dropout: probability of dropping an activation while training.
      bounded: it sees so many tokens at most as it was made for.
    """

    embedding: Embedding
    head: Head | LabelHead | None
    dropout: float
    bounded = True

    def __call__(
        self,
        batch: Batch,
        *,
        layout: Layout,
        compute_dtype: DTypeLike,
        dropout_key: jax.Array | None = None,
        asked_BA: Int[jax.Array, 'B A'] | None = None,
        dtype: DTypeLike = jnp.float32,
        quantization: Quantization | None = None,
    ) -> LogitsBTV:
        """Logits [B, T, V] for the batch's tokens; with two sides, for the decoder's.

        Arguments as of `Functional.apply`.

        Raises:
          UserError: the model has no head.
        """
        require(
            self.head is not None,
            'model.options.head=False: this encoder ends at its hidden states and has no logits',
        )
        assert self.head is not None
        context = Context(layout, compute_dtype, self.dropout, dropout_key, quantization)
        x_BTD = self.hidden(batch, context)
        if asked_BA is not None:
            x_BTD = jnp.take_along_axis(x_BTD, asked_BA[:, :, None], axis=1)
        return self.head(x_BTD, self.embedding, context, dtype)

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads, [B, T, D]."""
        raise NotImplementedError

    def encoded(self, batch: Batch, context: Context) -> HiddenBTD:
        """What became of `batch.tokens`, [B, T, D]: of two sides, what the decoder reads."""
        return self.hidden(batch, context)

    def read(
        self, batch: Batch, places: int, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Any]:
        """Reads the first tokens of texts that are to go on; of a model that predicts what follows.

        Args:
          batch: a text a row, all of which end at the last place; the places before a shorter one
            have segment 0 and position 0. Of two sides, the decoder's are such rows.
          places: tokens that a row may come to, empty places included.
          context: the forward pass, without dropout.

        Returns:
          fp32 logits [B, V] of the token after each row, and what `advance` needs to go on.
        """
        raise NotImplementedError

    def advance(
        self, tokens_B: Int[jax.Array, ' B'], state: Any, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Any]:
        """Reads one more token of each row.

        Args:
          tokens_B: int32.
          state: from `read`, or of the token before.
          context: as of `read`.

        Returns:
          As of `read`.
        """
        raise NotImplementedError

    def next_logits(self, x_BTD: HiddenBTD, context: Context) -> Float[jax.Array, 'B V']:
        """fp32 logits of the token after the last place."""
        assert self.head is not None
        return self.head(x_BTD[:, -1:], self.embedding, context)[:, 0]
