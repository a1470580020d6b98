"""What a model that writes from left to right is asked for: what it goes on from, and how its
answer becomes a text.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from lm.generation.begin import BLANK, Begun, begin, begin_task, require_fits
from lm.generation.language_model import LanguageModel


class Asked(NamedTuple):
    """What is to be decoded of one prompt.

    Attributes:
      begun: what has been read when the first token is asked for.
      ends: ids that end the answer.
      before: what stands before the answer's text.
      said: the text of the answer's ids; of a decoder it grows as they do.
    """

    begun: Begun
    ends: tuple[int, ...]
    before: str
    said: Callable[[Int[np.ndarray, ' _']], str]


def ask(model: LanguageModel, prompt: str, *, fill: bool) -> Asked:
    """What a prompt asks of a decoder, or of two sides; arguments as of `begin`.

    Raises:
      UserError: the prompt is longer than the context, or as of `begin`.
    """
    begun, eos_id = begin(model, prompt, fill=fill), model.tokenizer.vocabulary.eos_id
    if begun.source is None:
        require_fits(model, len(begun.given))
        return Asked(begun, (eos_id,), prompt, partial(model.text_added, begun.given))
    require_fits(model, len(begun.source))
    if model.config.objective.name == 'text_to_text':
        return Asked(begun, (eos_id,), '', model.tokenizer.decode)
    parts = prompt.split(BLANK) if fill else [prompt, '']
    if model.config.objective.name in ('prefix_lm', 'denoising'):
        first = model.tokenizer.encode(parts[0])
        return Asked(begun, (eos_id,), parts[0], partial(model.text_added, first))
    sentinels, blanks = model.tokenizer.vocabulary.sentinel_ids, len(parts) - 1
    # A sentinel that the prompt does not have begins an answer to nothing.
    ends = (eos_id, *sentinels[blanks:])
    return Asked(begun, ends, '', partial(_with_spans, model, parts, sentinels[:blanks]))


def ask_task(model: LanguageModel, ids: Int[np.ndarray, ' n']) -> Asked:
    """What an example's input asks of a model that learnt texts from texts."""
    begun, eos_id = begin_task(model, ids), model.tokenizer.vocabulary.eos_id
    return Asked(begun, (eos_id,), '', model.tokenizer.decode)


def _with_spans(
    model: LanguageModel,
    parts: Sequence[str],
    sentinels: Sequence[int],
    added: Int[np.ndarray, ' _'],
) -> str:
    """The parts with what the decoder said for each blank between them."""
    vocabulary, answer = model.tokenizer.vocabulary, np.append(sentinels[:1], added)
    stops = np.isin(answer, [vocabulary.eos_id, *vocabulary.sentinel_ids])
    text, before = parts[0], model.tokenizer.encode(parts[0])
    for sentinel, part in zip(sentinels, parts[1:], strict=True):
        said = np.flatnonzero(answer == sentinel)
        if len(said):
            start = said[0] + 1
            later = np.flatnonzero(stops[start:])
            span = answer[start : start + later[0] if len(later) else len(answer)]
            text += model.text_added(before, span)
            before = np.concatenate([before, span])
        text += part
        before = np.concatenate([before, model.tokenizer.encode(part)])
    return text
