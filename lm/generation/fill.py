"""Filling the blanks of a text by an encoder: one token each."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Key

from lm.generation.begin import BLANK, begin, require_fits
from lm.generation.language_model import LanguageModel
from lm.generation.rows import never, padded_rows
from lm.generation.sampling import Sampling, choose


def fill_tokens(
    model: LanguageModel, prompt: str, sampling: Sampling, keys_N: Key[jax.Array, ' N']
) -> list[str]:
    """A text with one token in each of its blanks, chosen independently; a text a key.

    Raises:
      UserError: the text is longer than the context.
    """
    row = begin(model, prompt, fill=True).given
    chosen_NA = chosen_tokens(model, row, sampling, keys_N)
    return [with_tokens(model, prompt.split(BLANK), row, chosen_A) for chosen_A in chosen_NA]


def chosen_tokens(
    model: LanguageModel,
    row: Int[np.ndarray, ' n'],
    sampling: Sampling,
    keys_N: Key[jax.Array, ' N'],
) -> Int[np.ndarray, 'N A']:
    """An id for each mask of the ids `row`, so often as there are keys.

    Raises:
      UserError: the row is longer than the context.
    """
    require_fits(model, len(row))
    tokens, segment_ids, _ = padded_rows(model, [row])
    # By mask id alone: text never contains it.
    blanks = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
    logits_AV = model.logits(tokens, segment_ids)[0, blanks]
    logits_AV = logits_AV.at[:, np.array(never(model))].set(-jnp.inf)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    keys_NA = jax.vmap(fold, in_axes=(0, None))(keys_N, jnp.arange(len(blanks)))
    return np.stack([choose(logits_AV, keys_A, sampling.draw()) for keys_A in keys_NA])


def with_tokens(
    model: LanguageModel, parts: Sequence[str], row: np.ndarray, chosen_A: np.ndarray
) -> str:
    """The parts of a text with the ids that were chosen for the masks of `row` between them."""
    filled, text = row.copy(), ''
    blanks = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
    filled[blanks] = chosen_A
    for blank, part in zip(blanks, parts, strict=False):
        text += part + model.text_added(filled[:blank], filled[blank : blank + 1])
    return text + parts[-1]
