"""`lm.generate`: prompts in, texts out, for each family."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

from lm.config import require
from lm.errors import UserError
from lm.generation.decode import decode
from lm.generation.fill import fill_spans, fill_tokens, never, require_fits
from lm.generation.language_model import LanguageModel
from lm.generation.sampling import Sampling

BLANK = '<mask>'
"""What stands for a blank in a text that is to be filled."""


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    num_samples: int = 1,
    seed: int = 0,
    fill: bool = False,
) -> list[str]:
    """Continues prompts, or fills their blanks.

    A decoder continues a prompt token by token until eos or `max_new_tokens`; past the context
    the oldest tokens are out of its sight. One trained as a prefix language model sees the prompt
    both ways, as its prefix. An encoder-decoder takes the continuation as one more
    blank at the end. With `fill`, each `<mask>` of a prompt is filled: by an encoder with one
    token each, chosen independently; by an encoder-decoder with a span each.

    Args:
      model: from `lm.load`.
      prompts: texts; an empty one starts from bos.
      max_new_tokens: tokens added at most.
      temperature, top_k, top_p: as in `Sampling`.
      num_samples: texts for each prompt, one after another.
      seed: decides the draws; those of sample i of prompt j do not depend on the others.
      fill: fill blanks instead of continuing.

    Returns:
      `len(prompts) * num_samples` texts, each with its prompt.

    Raises:
      UserError: a prompt longer than the context, a fill without a blank, a family that cannot do
        what is asked, or a setting out of its range.
    """
    require(not isinstance(prompts, str), 'prompts: a text; give a list of texts')
    require(max_new_tokens >= 1, f'max_new_tokens={max_new_tokens}: must be at least 1')
    require(num_samples >= 1, f'num_samples={num_samples}: must be at least 1')
    require(0 <= seed < 2**31, f'seed={seed}: must be in [0, 2**31)')
    sampling = Sampling(temperature, top_k, top_p)
    _require_able(model, prompts, fill)
    texts: list[str] = []
    for j, prompt in enumerate(prompts):
        key = jax.random.fold_in(jax.random.key(seed), j)
        keys_N = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_samples))
        if model.functional.family == 'decoder':
            texts += _continued(model, prompt, max_new_tokens, sampling, keys_N)
        elif model.functional.family == 'encoder':
            texts += fill_tokens(model, prompt.split(BLANK), sampling, keys_N)
        else:
            parts = prompt.split(BLANK) if fill else [prompt, '']
            texts += fill_spans(model, parts, max_new_tokens, sampling, keys_N)
    return texts


def _require_able(model: LanguageModel, prompts: Sequence[str], fill: bool) -> None:
    """Raises UserError unless the model's family can do with the prompts what is asked."""
    name, family = model.config.model.name, model.functional.family
    require(family != 'decoder' or not fill, f'fill: a decoder ({name}) only continues text')
    require(
        family != 'encoder' or fill,
        f'an encoder ({name}) does not continue text; give --fill and a prompt with {BLANK}',
    )
    for prompt in prompts:
        require(not fill or BLANK in prompt, f'prompt={prompt[:40]!r}: has no {BLANK} to fill')
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise UserError(f'prompt={prompt[:40]!r}: is not UTF-8 ({error.reason})') from None


def _continued(
    model: LanguageModel,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
    keys_N: Key[jax.Array, ' N'],
) -> list[str]:
    """A decoder's continuations of a prompt, one a key, each with the prompt."""
    vocabulary = model.tokenizer.vocabulary
    given = np.append([vocabulary.bos_id], model.tokenizer.encode(prompt)).astype(np.int32)
    require_fits(model, len(given))
    rows = np.full((len(keys_N), len(given) + max_new_tokens), vocabulary.eos_id, np.int32)
    rows[:, : len(given)] = given
    out = decode(
        model.forward,
        model.params,
        None,
        rows,
        np.full(len(keys_N), len(given), np.int32),
        window=model.context,
        prefix=model.config.objective.name == 'prefix_lm',
        forbidden=never(model, {vocabulary.eos_id}),
        ends=[vocabulary.eos_id],
        sampling=sampling,
        keys_B=keys_N,
    )
    return [prompt + model.text_added(given, row[len(given) :]) for row in out]
