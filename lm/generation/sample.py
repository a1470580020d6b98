"""`lm.generate`: prompts in, texts out, for each family."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Key

from lm.config import require
from lm.errors import UserError
from lm.generation.answers import Search, drawn, searched
from lm.generation.asked import ask
from lm.generation.begin import BLANK
from lm.generation.fill import fill_tokens
from lm.generation.language_model import LanguageModel
from lm.generation.sampling import Sampling


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 100,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float = 1.0,
    num_samples: int = 1,
    seed: int = 0,
    num_beams: int | None = None,
    length_penalty: float = 1.0,
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
      temperature: as in `Sampling`; none is 1.
      top_k: as in `Sampling`.
      top_p: as in `Sampling`.
      num_samples: texts for each prompt, one after another; of a search the best, best first.
      seed: decides the draws; those of sample i of prompt j do not depend on the others.
      num_beams: a beam search of this width finds the likeliest texts; None: texts are drawn.
      length_penalty: power of the length that the search divides log-probabilities by; above 0
        longer texts gain.
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
    sampling = Sampling(1.0 if temperature is None else temperature, top_k, top_p)
    require_able(model, prompts, fill)
    family, name = model.functional.family, model.config.model.name
    require(not isinstance(stop, str), 'stop: a text; give a list of texts')
    require(all(stop), 'stop: an empty text; give what ends a continuation')
    require(family == 'decoder' or not stop, f'stop: {name} is no decoder; leave it out')
    require(family == 'decoder' or on_text is None, f'on_text: {name} is no decoder')
    search = None
    if num_beams is not None:
        search = Search(num_beams, length_penalty)
        draws = temperature is not None or top_k is not None or top_p < 1
        listens = bool(stop) or on_text is not None
        _require_searches(model, search, num_samples, draws=draws, listens=listens)
    require(
        search is not None or length_penalty == 1,
        f'length_penalty={length_penalty}: is of a search; give num_beams',
    )
    if family == 'encoder':
        keys_JN = keys_of(seed, len(prompts), num_samples)
        return [
            text
            for prompt, keys_N in zip(prompts, keys_JN, strict=True)
            for text in fill_tokens(model, prompt, sampling, keys_N)
        ]
    asked = [ask(model, prompt, fill=fill) for prompt in prompts]
    if search is not None:
        return searched(model, asked, search, num_samples, max_new_tokens)
    keys_JN = keys_of(seed, len(prompts), num_samples)
    return drawn(model, asked, sampling, keys_JN, max_new_tokens, stop, on_text)


def keys_of(seed: int, prompts: int, samples: int) -> Key[jax.Array, 'J N']:
    """One random key a text, which depends on the numbers of its prompt and sample alone."""
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    keys_J = fold(jax.random.key(seed), jnp.arange(prompts))
    return jax.vmap(fold, in_axes=(0, None))(keys_J, jnp.arange(samples))


def _require_searches(
    model: LanguageModel, search: Search, num_samples: int, *, draws: bool, listens: bool
) -> None:
    """Raises UserError where a search is asked for what it does not do."""
    beams, name = f'num_beams={search.num_beams}', model.config.model.name
    require(not draws, f'{beams}: draws nothing; leave out temperature, top_k, top_p')
    require(not listens, f'{beams}: takes no stop and no on_text')
    require(model.functional.family != 'encoder', f'{beams}: {name} chooses each token by itself')
    require(
        num_samples <= search.num_beams,
        f'num_samples={num_samples}: {beams} finds no more than these',
    )


def require_able(model: LanguageModel, prompts: Sequence[str], fill: bool) -> None:
    """Raises UserError unless the model's family can do with the prompts what is asked."""
    name, family = model.config.model.name, model.functional.family
    require(
        not model.config.model.predicts_labels,
        f'{name}: tells labels apart (objective.name={model.config.objective.name}), and says no '
        'text; `lm evaluate --examples` asks it',
    )
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
