"""What a training batch is, from the objective's host half to the model."""

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import jax

    Array: TypeAlias = jax.Array | np.ndarray
else:
    Array = Any  # objectives are looked up without jax


class Row(NamedTuple):
    """One packed row of raw tokens, before an objective has seen it.

    Attributes:
      tokens: int32 [R], ids with bos before and eos after each document; pad after the last.
      segment_ids: int32 [R], 1, 2, ... for the documents of the row in turn; 0 is padding.
      positions: int32 [R], from 0 anew in every segment.
      documents: int32 [R], the source document's index in its split; -1 is padding.
    """

    tokens: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    documents: np.ndarray


class Batch(NamedTuple):
    """What a model reads and what it should say. Every array is [B, T] (or [T] for one row).

    Where a label of the whole row is to be said `targets` and `loss_weights` have length 1, and
    where a span is, length 2: its first and its last place.

    In an encoder-decoder model `tokens`, `segment_ids` and `positions` belong to the encoder,
    the `decoder_*` fields to what the decoder reads, and `targets` and `loss_weights` have the
    decoder's length; elsewhere the `decoder_*` fields are None.

    Attributes:
      tokens: int32, what the model reads.
      segment_ids: int32, 0 is padding; attention stays within a segment.
      positions: int32, from 0 anew in every segment.
      decoder_tokens, decoder_segment_ids, decoder_positions: int32, the decoder's side; its
        segments attend to the encoder's segments of the same id.
      targets: int32, what it should predict at each position; None where logits are all that
        is wanted.
      loss_weights: float32, what each prediction counts; 0 where nothing is to be predicted.
      prefix: bool, of `tokens`: which of them all positions of their segment see, also those
        before them; None: a decoder's positions see nothing behind them.
      token_types: int32, of `tokens`: 1 in the second of two texts that an encoder reads as one
        segment; None: all 0.
    """

    tokens: Array
    segment_ids: Array
    positions: Array
    decoder_tokens: Array | None = None
    decoder_segment_ids: Array | None = None
    decoder_positions: Array | None = None
    targets: Array | None = None
    loss_weights: Array | None = None
    prefix: Array | None = None
    token_types: Array | None = None


def stack(rows: list[Batch]) -> Batch:
    """Rows of one shape as one batch: [T] arrays become [B, T]."""
    return Batch._make(None if f[0] is None else np.stack(f) for f in zip(*rows, strict=True))
