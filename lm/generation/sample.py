"""`lm.generate`: prompts in, texts out, for each family."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Key

from lm.batch import Batch
from lm.config import require
from lm.errors import UserError
from lm.generation.begin import BLANK, Begun, begin, require_fits
from lm.generation.decode import decode
from lm.generation.fill import fill_spans, fill_tokens, never, padded_rows
from lm.generation.growing import Growing
from lm.generation.language_model import LanguageModel
from lm.generation.sampling import Sampling

ROWS = 64
"""Texts that are continued at a time."""
UNHEARD = 16
"""Tokens between two looks for a stop string, where nobody listens."""


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
    stop: Sequence[str] = (),
    on_text: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Continues prompts, or fills their blanks.

    A decoder continues a prompt token by token until eos or `max_new_tokens`; past the context
    the oldest tokens are out of its sight, but a recurrent one's state has read them all. One
    trained as a prefix language model or by UL2 sees the prompt both ways, as its prefix. An
    encoder-decoder takes the continuation as one more blank at the end; a prefix language model's
    encoder reads the prompt alone. With `fill`, each `<mask>`
    of a prompt is filled: by an encoder with one token each, chosen independently; by an
    encoder-decoder with a span each. One trained by denoising says the text from its first blank
    on anew.

    Args:
      model: from `lm.load`.
      prompts: texts; an empty one starts from bos.
      max_new_tokens: tokens added at most.
      temperature, top_k, top_p: as in `Sampling`.
      num_samples: texts for each prompt, one after another.
      seed: decides the draws; those of sample i of prompt j do not depend on the others.
      fill: fill blanks instead of continuing.
      stop: strings of which the first to be whole ends a decoder's continuation, itself left out.
      on_text: hears of a decoder's continuations as they come: the number of the text, and what is
        added to it.

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
    require_able(model, prompts, fill)
    decodes = model.functional.family == 'decoder'
    require(not isinstance(stop, str), 'stop: a text; give a list of texts')
    require(all(stop), 'stop: an empty text; give what ends a continuation')
    require(decodes or not stop, f'stop: {model.config.model.name} is no decoder; leave it out')
    require(decodes or on_text is None, f'on_text: {model.config.model.name} is no decoder')
    keys_J = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        jax.random.key(seed), jnp.arange(len(prompts))
    )
    keys_JN = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))(
        keys_J, jnp.arange(num_samples)
    )
    if decodes:
        return _continued(model, prompts, max_new_tokens, sampling, keys_JN, stop, on_text)
    texts: list[str] = []
    for prompt, keys_N in zip(prompts, keys_JN, strict=True):
        if model.functional.family == 'encoder':
            texts += fill_tokens(model, prompt, sampling, keys_N)
            continue
        parts = prompt.split(BLANK) if fill else [prompt, '']
        begun = begin(model, prompt, fill=fill)
        if model.config.objective.name in ('prefix_lm', 'denoising'):
            texts += _said(model, parts, begun, max_new_tokens, sampling, keys_N)
        else:
            texts += fill_spans(model, parts, begun, max_new_tokens, sampling, keys_N)
    return texts


def require_able(model: LanguageModel, prompts: Sequence[str], fill: bool) -> None:
    """Raises UserError unless the model's family can do with the prompts what is asked."""
    name, family = model.config.model.name, model.functional.family
    require(family != 'decoder' or not fill, f'fill: a decoder ({name}) only continues text')
    require(
        model.fills_blanks or not fill,
        'fill: a model of objective.name=prefix_lm only continues text',
    )
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
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling,
    keys_JN: Key[jax.Array, 'J N'],
    stop: Sequence[str],
    on_text: Callable[[int, str], None] | None,
) -> list[str]:
    """A decoder's continuations of prompts, one a key, each with its prompt."""
    vocabulary = model.tokenizer.vocabulary
    count = keys_JN.shape[1]
    begun = [begin(model, prompt, fill=False) for prompt in prompts for _ in range(count)]
    for one in begun:
        require_fits(model, len(one.given))
    keys_B, texts = keys_JN.reshape(-1), []
    for first in range(0, len(begun), ROWS):
        given = begun[first : first + ROWS]
        growing = [Growing(partial(model.text_added, one.given), stop) for one in given]
        hear = partial(_hear, growing, vocabulary.eos_id, first, on_text)
        out = decode(
            model.functional,
            model.params,
            [one.given for one in given],
            max_new_tokens=max_new_tokens,
            window=model.context,
            prefix=None if given[0].prefix is None else [one.prefix or 0 for one in given],
            forbidden=never(model, given[0].allowed),
            ends=[vocabulary.eos_id],
            sampling=sampling,
            keys_B=keys_B[first : first + ROWS],
            watch=hear if stop or on_text else None,
            every=1 if on_text else UNHEARD,
        )
        hear(out.tokens_BN, ended=True)
        texts += [prompts[i // count] + one.text for i, one in enumerate(growing, start=first)]
    return texts


def _hear(
    growing: Sequence[Growing],
    eos_id: int,
    first: int,
    on_text: Callable[[int, str], None] | None,
    tokens_BN: Int[np.ndarray, 'B n'],
    *,
    ended: bool = False,
) -> Bool[np.ndarray, ' B']:
    """Lets texts grow, tells what was added, and says which came to a stop."""
    for i, (one, row) in enumerate(zip(growing, tokens_BN, strict=True), start=first):
        piece = one.grown(row, ended=ended or bool((row == eos_id).any()))
        if on_text is not None and piece:
            on_text(i, piece)
    return np.array([one.stopped for one in growing])


def _said(
    model: LanguageModel,
    parts: Sequence[str],
    begun: Begun,
    max_new_tokens: int,
    sampling: Sampling,
    keys_N: Key[jax.Array, ' N'],
) -> list[str]:
    """What the decoder of two sides says of a text, from its first blank on, a text a key."""
    vocabulary = model.tokenizer.vocabulary
    assert begun.source is not None
    out = decode(
        model.functional,
        model.params,
        [begun.given] * len(keys_N),
        Batch(*padded_rows(model, begun.source, rows=len(keys_N))),
        max_new_tokens=max_new_tokens,
        window=model.context,
        forbidden=never(model, begun.allowed),
        ends=[vocabulary.eos_id],
        sampling=sampling,
        keys_B=keys_N,
    )
    first = model.tokenizer.encode(parts[0])
    return [parts[0] + model.text_added(first, row) for row in out.tokens_BN]
