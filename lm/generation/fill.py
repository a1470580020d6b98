"""Filling the blanks of a text by an encoder: one token each."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.generation.prompts import joined, never, padded_rows, require_fits
from lm.generation.sampling import Sampling, choose


def fill_tokens(
    model: LanguageModel, parts: Sequence[str], sampling: Sampling, keys_N: Key[jax.Array, ' N']
) -> list[str]:
    """The parts of a text joined by one token each, chosen independently; a text a key.

    Raises:
      UserError: the text is longer than the context.
    """
    vocabulary = model.tokenizer.vocabulary
    if vocabulary.mask_id is None:
        raise UserError('fill: the tokenizer has no mask token')
    row = joined(model, parts, [vocabulary.mask_id] * (len(parts) - 1))
    row = np.concatenate([[vocabulary.bos_id], row, [vocabulary.eos_id]]).astype(np.int32)
    require_fits(model, len(row))
    tokens, segment_ids, _ = padded_rows(model, [row])
    # By mask id alone: text never contains it.
    blanks = np.flatnonzero(row == vocabulary.mask_id)
    logits_BV = model.logits(tokens, segment_ids)[0, blanks]
    logits_BV = logits_BV.at[:, np.array(never(model))].set(-jnp.inf)
    texts = []
    for key in keys_N:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(blanks)))
        filled = row.copy()
        filled[blanks] = choose(logits_BV, keys, sampling.draw())
        text = ''
        for blank, part in zip(blanks, parts, strict=False):
            text += part + model.text_added(filled[:blank], filled[blank : blank + 1])
        texts.append(text + parts[-1])
    return texts
