"""A model ready for use: its functions, parameters and tokenizer together."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.config import Config
from lm.errors import UserError
from lm.models.functional import Functional
from lm.shapes import LogitsBTV, Params, TokensBT
from lm.vocabulary import Vocabulary

_FILL_NOTHING = ('prefix_lm', 'text_to_text')
"""Objectives of encoder-decoders that no blank is filled in."""


@runtime_checkable
class TextCodec(Protocol):
    """What is needed of a tokenizer: text to ids, ids to text, and the special ids."""

    vocabulary: Vocabulary

    def encode(self, text: str) -> np.ndarray:
        """int32 ids of a text, without bos or eos."""
        ...

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of ids, special ones left out."""
        ...


class Forward:
    """A model's forward pass as a static argument of jitted functions.

    Two of one `Functional` are equal, so whatever is compiled for a model is compiled once.
    """

    def __init__(self, functional: Functional):
        self.functional = functional

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forward) and other.functional is self.functional

    def __hash__(self) -> int:
        return id(self.functional)

    def __call__(self, params: Params, batch: Batch) -> LogitsBTV:
        """Logits without dropout."""
        return self.functional.apply(params, batch)


@dataclass(frozen=True)
class LanguageModel:
    """What `lm.load` returns and `lm.generate` takes.

    Attributes:
      config: of the run it comes from.
      functional: the model as pure functions.
      params: its parameters, in the dtypes that they were saved in.
      text_codec: its tokenizer; None where none came with it.
    """

    config: Config
    functional: Functional
    params: Params
    text_codec: TextCodec | None

    @property
    def tokenizer(self) -> TextCodec:
        """Its tokenizer.

        Raises:
          UserError: none came with it.
        """
        if self.text_codec is None:
            raise UserError(
                'tokenizer: no tokenizer files came with this model; put them into its folder, or '
                'give one to `lm convert --tokenizer`'
            )
        return self.text_codec

    @property
    def context(self) -> int:
        """The most positions the model reads at once."""
        return self.config.model.max_positions

    @property
    def decoder_start(self) -> int:
        """The id that the decoder of an encoder-decoder reads first.

        Raises:
          UserError: the model does not say, and there is no tokenizer whose padding id it is.
        """
        own: int | None = getattr(self.config.model.options, 'decoder_start', None)
        return self.tokenizer.vocabulary.pad_id if own is None else own

    @property
    def fills_blanks(self) -> bool:
        """Whether it was trained to fill blanks within a text."""
        objective = self.config.objective.name
        return self.functional.family != 'decoder' and objective not in _FILL_NOTHING

    @property
    def forward(self) -> Forward:
        """Its forward pass."""
        return Forward(self.functional)

    def logits(
        self,
        tokens_BT: Int[np.ndarray, 'B T'],
        segment_ids: Int[np.ndarray, 'B T'] | None = None,
        decoder_tokens: Int[np.ndarray, 'B U'] | None = None,
    ) -> Float[jax.Array, 'B _ V']:
        """Logits at every position, fp32; without dropout.

        Args:
          tokens_BT: ids that the model (of two sides: the encoder) reads.
          segment_ids: 0 is padding, attention stays within equal ids, positions restart where the
            id changes. None: all one segment.
          decoder_tokens: what the decoder of an encoder-decoder reads, `decoder_start` first; every
            row is one segment, which reads the encoder's segment 1.

        Returns:
          [B, T, V], or [B, U, V] with two sides; V includes padding rows, whose logits are -inf.

        Raises:
          UserError: ids that are no rows, or beyond the embedding; decoder tokens are missing, or
            the model has no decoder beside an encoder; or rows longer than a table of learned
            positions.
        """
        batch = self._batch(tokens_BT, segment_ids, decoder_tokens)
        return _logits(self.params, batch, forward=self.forward)

    def hidden(
        self,
        tokens_BT: Int[np.ndarray, 'B T'],
        segment_ids: Int[np.ndarray, 'B T'] | None = None,
        decoder_tokens: Int[np.ndarray, 'B U'] | None = None,
    ) -> Float[jax.Array, 'B _ D']:
        """The states that the head reads, behind the last norm; arguments as of `logits`.

        Returns:
          [B, T, D], or [B, U, D] of the decoder, in the dtype of the computation.
        """
        batch = self._batch(tokens_BT, segment_ids, decoder_tokens)
        return _hidden(self.params, batch, forward=self.forward)

    def _batch(
        self, tokens_BT: np.ndarray, segment_ids: np.ndarray | None, decoder_tokens: Any
    ) -> Batch:
        two_sided = self.functional.family == 'encoder_decoder'
        if two_sided != (decoder_tokens is not None):
            need = 'needs decoder_tokens too' if two_sided else 'takes no decoder_tokens'
            raise UserError(f'{self.config.model.name} is an {self.functional.family}: it {need}')
        tokens_BT = self._checked('tokens', tokens_BT)
        ids_BT = np.ones_like(tokens_BT) if segment_ids is None else np.asarray(segment_ids)
        batch = Batch(tokens_BT, ids_BT.astype(np.int32), restarting(ids_BT))
        if decoder_tokens is not None:
            decoder_side = one_segment(self._checked('decoder_tokens', decoder_tokens))
            batch = Batch(batch.tokens, batch.segment_ids, batch.positions, *decoder_side)
        return batch

    def _checked(self, name: str, tokens_BT: np.ndarray) -> np.ndarray:
        """Token ids as int32 [B, T]."""
        array, rows = np.asarray(tokens_BT), self.config.model.padded_vocab_size
        if array.ndim != 2:
            raise UserError(f'{name}: has {array.ndim} axes; give rows of ids, [B, T]')
        if array.size and not (array.min() >= 0 and array.max() < rows):
            raise UserError(f'{name}: holds ids beyond the {rows} of the embedding')
        return array.astype(np.int32)

    def text_added(self, before: np.ndarray, added: np.ndarray) -> str:
        """The text of the ids `added` where they follow the ids `before`.

        Decoded together: by themselves, some tokenizers would leave out a first space.
        """
        start = self.tokenizer.decode(before)
        whole = self.tokenizer.decode(np.concatenate([before, added]))
        return whole[len(start) :] if whole.startswith(start) else self.tokenizer.decode(added)


@partial(jax.jit, static_argnames='forward')
def _logits(params: Params, batch: Batch, *, forward: Forward) -> jax.Array:
    return forward(params, batch)


@partial(jax.jit, static_argnames='forward')
def _hidden(params: Params, batch: Batch, *, forward: Forward) -> jax.Array:
    return forward.functional.hidden(params, batch)


def one_segment(tokens_BT: TokensBT) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens, segment ids and positions of rows that are one text each, int32 [B, T]."""
    tokens_BT = jnp.asarray(tokens_BT, jnp.int32)
    places_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    return tokens_BT, jnp.ones_like(tokens_BT), places_BT


def restarting(segment_ids: Int[np.ndarray, 'B T']) -> Int[np.ndarray, 'B T']:
    """Positions that count from 0 in every run of equal segment ids; int32."""
    places_BT = np.broadcast_to(np.arange(segment_ids.shape[1]), segment_ids.shape)
    starts_BT = np.ones_like(segment_ids, bool)
    starts_BT[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    first_BT = np.maximum.accumulate(np.where(starts_BT, places_BT, 0), axis=1)
    return (places_BT - first_BT).astype(np.int32)
