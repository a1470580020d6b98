"""What a model would say next, before and after each setting of sampling."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.config import require
from lm.generation.begin import BLANK
from lm.generation.language_model import Forward, LanguageModel
from lm.generation.rows import never
from lm.generation.sampling import Sampling, probabilities
from lm.inspection.text import Read, read_text, spelled
from lm.shapes import Params

RAW, ALL = 'raw', 'all'
"""The model's own distribution; the one that `lm.generate` draws from."""


@dataclass(frozen=True)
class NextToken:
    """The likeliest tokens at one place.

    Attributes:
      where: the place, in words.
      ids_N: the N likeliest by the raw logits, in that order: the first is of rank 1.
      tokens: their pieces.
      probabilities: of each, by setting, such as `raw`, `temperature=0.8`, `top_k=40`, `top_p=0.9`
        and `all`, fp32. All but `raw` are of a vocabulary without the special tokens that
        `lm.generate` never says there.
      remaining: by setting, how many tokens of the whole vocabulary may be drawn.
    """

    where: str
    ids_N: Int[np.ndarray, ' N']
    tokens: tuple[str, ...]
    probabilities: Mapping[str, Float[np.ndarray, ' N']]
    remaining: Mapping[str, int]


def next_tokens(
    model: LanguageModel,
    text: str,
    *,
    target: str = '',
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    rows: int = 20,
) -> list[NextToken]:
    """The likeliest next tokens: after a decoder's text, in each blank of an encoder's.

    Of an encoder-decoder they are the first that the decoder says, or those after `target`.

    Args:
      model: from `lm.load`.
      text: as of `attention_maps`.
      target: as of `attention_maps`.
      temperature: of `lm.generation.sampling.Sampling`; alone, and together with the next two.
      top_k: the same.
      top_p: the same.
      rows: N, of which there are fewer where the vocabulary is smaller.

    Returns:
      One for each place: a decoder has one, an encoder one a `<mask>`.

    Raises:
      UserError: as `read_text` of `lm.inspection.text`; a setting out of its range, or a model that
        predicts nothing there.
    """
    together = Sampling(temperature, top_k, top_p)
    require(rows >= 1, f'rows={rows}: must be at least 1')
    reason = nothing_next(model, text)
    require(not reason, reason)
    settings = {
        f'temperature={temperature:g}': Sampling(temperature=temperature),
        f'top_k={"none" if top_k is None else top_k}': Sampling(top_k=top_k),
        f'top_p={top_p:g}': Sampling(top_p=top_p),
        ALL: together,
    }
    read = read_text(model, text, target)
    places = _places(model, read, text, target)
    asked_BA = np.array([[*places]], np.int32)
    logits_AV = _logits(model.params, read.batch, asked_BA, forward=Forward(model.functional))
    likely_AV = logits_AV.at[:, np.array(never(model, read.begun.allowed))].set(-jnp.inf)
    found = {RAW: np.asarray(jax.nn.softmax(logits_AV))}
    for name, sampling in settings.items():
        found[name] = np.asarray(probabilities(likely_AV, sampling.draw()))
    order_AN = np.argsort(-np.asarray(logits_AV), axis=-1, kind='stable')
    shown = min(rows, model.tokenizer.vocabulary.size)
    return [
        NextToken(
            where,
            ids_N.astype(np.int32),
            spelled(model, ids_N),
            {name: each_AV[i][ids_N] for name, each_AV in found.items()},
            {name: int(np.count_nonzero(each_AV[i])) for name, each_AV in found.items()},
        )
        for i, (where, ids_N) in enumerate(zip(places.values(), order_AN[:, :shown], strict=True))
    ]


def nothing_next(model: LanguageModel, text: str) -> str:
    """Why a model predicts no token of a text, or empty."""
    name = model.config.model.name
    if not getattr(model.config.model.options, 'head', True):
        return f'model.options.head=False: this {name} ends at its hidden states and predicts none'
    if model.functional.family == 'encoder' and BLANK not in text:
        return f'text: has no {BLANK}, and an encoder ({name}) predicts none elsewhere'
    return ''


def _places(model: LanguageModel, read: Read, text: str, target: str) -> dict[int, str]:
    """Places of the side that predicts, and what they are called."""
    if model.functional.family == 'encoder':
        blanks = np.flatnonzero(read.given == model.tokenizer.vocabulary.mask_id)
        return {int(place): f'{BLANK} {i} of {len(blanks)}' for i, place in enumerate(blanks, 1)}
    last = len(read.given) - 1
    if target:
        return {last: f'after the target {_end(target)!r}'}
    if model.functional.family == 'decoder' or BLANK not in text:
        return {last: f'after {_end(text)!r}'}
    return {last: f'the first token of the first {BLANK}'}


def _end(text: str) -> str:
    return text if len(text) <= 40 else f'...{text[-37:]}'


@partial(jax.jit, static_argnames='forward')
def _logits(
    params: Params, batch: Batch, asked_BA: jax.Array, *, forward: Forward
) -> Float[jax.Array, 'A V']:
    logits_BAV = forward.functional.apply(params, batch, asked_BA=asked_BA)
    return logits_BAV[0]
