"""Filling the blanks of a text by an encoder: one token each."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

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
    row, parts = begin(model, prompt, fill=True).given, prompt.split(BLANK)
    require_fits(model, len(row))
    tokens, segment_ids, _ = padded_rows(model, [row])
    # By mask id alone: text never contains it.
    blanks = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
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
