"""Prompts as rows of ids, and ids that may not come behind them."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from lm.generation.decode import padded_length
from lm.generation.language_model import LanguageModel


def never(model: LanguageModel, allowed: Iterable[int] = ()) -> tuple[int, ...]:
    """Ids that may not be chosen: special ones, and those the tokenizer does not have."""
    vocabulary = model.tokenizer.vocabulary
    beyond = range(vocabulary.size, model.config.model.padded_vocab_size)
    ids = vocabulary.special_ids | {vocabulary.unk_id} | set(beyond)
    return tuple(sorted(ids - set(allowed)))


def padded_rows(
    model: LanguageModel, rows: Sequence[Int[np.ndarray, ' _']]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segment ids and positions, int32 [B, T], of texts as long as is compiled."""
    width = padded_length(max(map(len, rows)), model.context)
    shape, pad_id = (len(rows), width), model.tokenizer.vocabulary.pad_id
    tokens_BT, (segments_BT, positions_BT) = np.full(shape, pad_id, np.int32), np.zeros((2, *shape))
    for i, ids in enumerate(rows):
        tokens_BT[i, : len(ids)], segments_BT[i, : len(ids)] = ids, 1
        positions_BT[i, : len(ids)] = np.arange(len(ids))
    return tokens_BT, segments_BT.astype(np.int32), positions_BT.astype(np.int32)
