"""What a model that writes from left to right is asked for: ids to go on from, and how its answer
becomes a text.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.generation.prompts import joined, never, require_fits
from lm.vocabulary import MODES


class Asked(NamedTuple):
    """What is to be decoded of one prompt.

    Attributes:
      given: int32 ids that the row begins with.
      prefix: so many of them are seen both ways; None: the model was trained without.
      source: int32 ids that an encoder reads; None: there is none.
      forbidden: ids that are never chosen.
      ends: ids that end the answer.
      before: what stands before the answer's text.
      said: the text of the answer's ids; it grows as they do where the model is a decoder.
    """

    given: Int[np.ndarray, ' _']
    prefix: int | None
    source: Int[np.ndarray, ' _'] | None
    forbidden: tuple[int, ...]
    ends: tuple[int, ...]
    before: str
    said: Callable[[Int[np.ndarray, ' _']], str]


def continuation(model: LanguageModel, prompt: str) -> Asked:
    """How a decoder goes on with a prompt.

    Raises:
      UserError: it is longer than the context.
    """
    vocabulary = model.tokenizer.vocabulary
    text = model.tokenizer.encode(prompt)
    given, prefix = np.append([vocabulary.bos_id], text), None
    if model.config.objective.name == 'prefix_lm':
        prefix = len(given)
    elif mode := mode_ids(model, '[S]'):
        blank = vocabulary.sentinel_ids[:1]
        given = np.concatenate([mode, text, blank, [vocabulary.eos_id], blank])
        prefix = len(given) - 1
    require_fits(model, len(given))
    given = given.astype(np.int32)
    ends = (vocabulary.eos_id,)
    return Asked(
        given, prefix, None, never(model, ends), ends, prompt, partial(model.text_added, given)
    )


def whole_text(model: LanguageModel, parts: Sequence[str]) -> Asked:
    """How a decoder of two sides says a text from its first blank on.

    Of a prefix language model the encoder has read the first part, of denoising all parts with
    masks between; its decoder says the whole text, of which the first part is given.

    Raises:
      UserError: it is longer than the context.
    """
    vocabulary = model.tokenizer.vocabulary
    first = joined(model, parts[:1], ())
    source = np.append([vocabulary.bos_id], first)
    given = np.array([model.decoder_start], np.int32)
    if model.config.objective.name == 'denoising':
        assert vocabulary.mask_id is not None  # or it could not have been trained
        damaged = joined(model, parts, [vocabulary.mask_id] * (len(parts) - 1))
        source = np.concatenate([[vocabulary.bos_id], damaged, [vocabulary.eos_id]])
        given = np.concatenate([given, [vocabulary.bos_id], first]).astype(np.int32)
    require_fits(model, len(source))
    ends = (vocabulary.eos_id,)
    said = partial(model.text_added, first)
    return Asked(
        given, None, source.astype(np.int32), never(model, ends), ends, parts[0], said
    )  # fmt: skip


def spans(model: LanguageModel, parts: Sequence[str], before: Sequence[int]) -> Asked:
    """How the parts of a text are joined by a span each, as span corruption writes its targets.

    `before` are ids that the encoder reads first.

    Raises:
      UserError: the text is longer than the context, or has more blanks than there are sentinels.
    """
    vocabulary = model.tokenizer.vocabulary
    blanks = len(parts) - 1
    if not vocabulary.sentinel_ids:
        raise UserError(
            f'model.name={model.config.model.name}: its tokenizer has no sentinels, by which its '
            'decoder says what stands in a blank; only its logits can be had'
        )
    if blanks > len(vocabulary.sentinel_ids):
        raise UserError(
            f'prompt: has {blanks} blanks; at most {len(vocabulary.sentinel_ids)}, the '
            "tokenizer's sentinels"
        )
    sentinels, others = vocabulary.sentinel_ids[:blanks], vocabulary.sentinel_ids[blanks:]
    source = np.concatenate([before, joined(model, parts, sentinels), [vocabulary.eos_id]])
    require_fits(model, len(source))
    # The decoder begins with its start, then the first blank's own sentinel.
    given = np.array([model.decoder_start, sentinels[0]], np.int32)
    return Asked(
        given,
        None,
        source.astype(np.int32),
        never(model, (vocabulary.eos_id, *vocabulary.sentinel_ids)),
        # A sentinel that the prompt does not have begins an answer to nothing.
        (vocabulary.eos_id, *others),
        '',
        partial(_with_spans, model, parts, sentinels),
    )


def mode_ids(model: LanguageModel, mode: str) -> list[int]:
    """The mode token that the model was trained to read first, if it was."""
    if model.config.objective.name != 'ul2':
        return []
    return [model.tokenizer.vocabulary.mode_ids[MODES.index(mode)]]


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
