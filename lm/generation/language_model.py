"""A model ready for use: its functions, parameters and tokenizer together."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from lm.batch import Batch
from lm.config import Config
from lm.models.functional import Functional
from lm.shapes import LogitsBTV, Params
from lm.vocabulary import Vocabulary


@runtime_checkable
class TextCodec(Protocol):
    """What is needed of a tokenizer: text to ids, ids to text, and the special ids."""

    vocabulary: Vocabulary

    def encode(self, text: str) -> np.ndarray:
        """int32 ids of a text, without bos or eos."""
        ...

    def decode(self, ids: Any) -> str:
        """The text of ids, special ones left out."""
        ...


@dataclass(frozen=True)
class LanguageModel:
    """What `lm.load` returns and `lm.generate` takes.

    Attributes:
      config: of the run it comes from.
      functional: the model as pure functions.
      params: its parameters.
      tokenizer: its tokenizer.
    """

    config: Config
    functional: Functional
    params: Params
    tokenizer: TextCodec

    @property
    def context(self) -> int:
        """The most positions the model reads at once."""
        return self.config.model.max_positions

    def logits(
        self,
        tokens_BT: np.ndarray,
        segment_ids: np.ndarray | None = None,
        decoder_tokens: np.ndarray | None = None,
    ) -> LogitsBTV:
        """Logits at every position, fp32; without dropout.

        Args:
          tokens_BT: int32 ids that the model (of two sides: the encoder) reads.
          segment_ids: int32 [B, T]; 0 is padding, attention stays within equal ids, positions
            restart where the id changes. None: all one segment.
          decoder_tokens: int32 [B, U], what the decoder of an encoder-decoder reads; every row is
            one segment.

        Returns:
          [B, T, V], or [B, U, V] with two sides; V includes padding rows, whose logits are -inf.
        """
        tokens_BT = np.asarray(tokens_BT, np.int32)
        if segment_ids is None:
            segment_ids = np.ones_like(tokens_BT)
        batch = Batch(tokens_BT, np.asarray(segment_ids, np.int32), restarting(segment_ids))
        if decoder_tokens is not None:
            ids_BU = np.asarray(decoder_tokens, np.int32)
            batch = batch._replace(
                decoder_tokens=ids_BU,
                decoder_segment_ids=np.ones_like(ids_BU),
                decoder_positions=restarting(np.ones_like(ids_BU)),
            )
        return self._apply(self.params, batch)

    @cached_property
    def _apply(self) -> Any:
        return jax.jit(lambda params, batch: self.functional.apply(params, batch))


def restarting(segment_ids: np.ndarray) -> np.ndarray:
    """Positions that count from 0 in every run of equal segment ids; int32, same shape."""
    ids_BT = np.asarray(segment_ids)
    places_BT = np.broadcast_to(np.arange(ids_BT.shape[1]), ids_BT.shape)
    starts_BT = np.ones_like(ids_BT, bool)
    starts_BT[:, 1:] = ids_BT[:, 1:] != ids_BT[:, :-1]
    first_BT = np.maximum.accumulate(np.where(starts_BT, places_BT, 0), axis=1)
    return (places_BT - first_BT).astype(np.int32)
