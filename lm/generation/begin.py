"""A prompt as a model reads it before its first token: by family, and by what it was trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.vocabulary import MODES

BLANK = '<mask>'
"""What stands for a blank in a text that is to be filled."""


class Begun(NamedTuple):
    """What has been read when the first token is asked for.

    Attributes:
      given: int32 ids that the side which predicts reads first; an encoder's are the whole text.
      source: int32 ids that the encoder of two sides reads; None: there is one side.
      prefix: so many of `given` are seen both ways; None: the model was trained without.
      allowed: special ids that may come next.
    """

    given: Int[np.ndarray, ' n']
    source: Int[np.ndarray, ' m'] | None = None
    prefix: int | None = None
    allowed: frozenset[int] = frozenset()


def begin(model: LanguageModel, text: str, *, fill: bool, words: str = 'prompt') -> Begun:
    """A prompt as `lm.generate` has it read.

    Args:
      model: of any family.
      text: the prompt.
      fill: its blanks are to be filled; an encoder fills whatever blanks there are.
      words: what the text is called in errors.

    Raises:
      UserError: the tokenizer lacks what blanks are written with.
    """
    family = model.functional.family
    if family == 'decoder':
        return _continued(model, text)
    if model.config.objective.name == 'text_to_text':
        return begin_task(model, model.tokenizer.encode(text))
    if family == 'encoder':
        return _masked(model, text.split(BLANK), words)
    parts = text.split(BLANK) if fill else [text, '']
    if model.config.objective.name in ('prefix_lm', 'denoising'):
        return _said(model, parts)
    return _spans(model, parts, _mode(model, '[R]' if fill else '[S]'), words)


def begin_task(model: LanguageModel, ids: Int[np.ndarray, ' n']) -> Begun:
    """What a model of `objective.name=text_to_text` is given, as it was trained on examples."""
    vocabulary = model.tokenizer.vocabulary
    ends = frozenset({vocabulary.eos_id})
    if model.functional.family == 'decoder':
        return Begun(np.append([vocabulary.bos_id], ids).astype(np.int32), allowed=ends)
    bos = [vocabulary.bos_id] if model.config.objective.options.bos else []
    source = np.concatenate([bos, ids, [vocabulary.eos_id]]).astype(np.int32)
    return Begun(np.array([model.decoder_start, *bos], np.int32), source, allowed=ends)


def framed(model: LanguageModel, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A whole text, of which nothing is asked, as the side that reads it knows texts.

    An encoder's stands between bos and eos; that of an encoder-decoder has what its objective gave
    it: a mode first, eos behind it unless that is a prefix. A decoder's follows bos, or a mode.

    Returns:
      int32 ids that come before the text, its own, and those behind it.
    """
    vocabulary, objective = model.tokenizer.vocabulary, model.config.objective.name
    bos, eos = [vocabulary.bos_id], [vocabulary.eos_id]
    has_bos = objective == 'text_to_text' and model.config.objective.options.bos
    before, after = {
        'encoder': (bos, eos),
        'decoder': (_mode(model, '[S]') or bos, []),
        'encoder_decoder': (
            bos if objective in ('prefix_lm', 'denoising') or has_bos else _mode(model, '[S]'),
            [] if objective == 'prefix_lm' else eos,
        ),
    }[model.functional.family]
    ids = model.tokenizer.encode(text)
    return np.array(before, np.int32), ids, np.array(after, np.int32)


def joined(model: LanguageModel, parts: Sequence[str], between: Sequence[int]) -> np.ndarray:
    """The ids of the parts with one id between each two."""
    pieces = [model.tokenizer.encode(parts[0])]
    for special, part in zip(between, parts[1:], strict=True):
        pieces += [np.array([special]), model.tokenizer.encode(part)]
    return np.concatenate(pieces).astype(np.int32)


def require_fits(model: LanguageModel, length: int, words: str = 'prompt') -> None:
    """Raises UserError where a text of `length` ids, special ones included, is too long."""
    if length > model.context:
        raise UserError(
            f'{words}: {length} tokens with its special ones, the context is '
            f'model.max_positions={model.context}; shorten it'
        )


def _continued(model: LanguageModel, text: str) -> Begun:
    """What a decoder goes on from."""
    vocabulary = model.tokenizer.vocabulary
    ids, ends = model.tokenizer.encode(text), frozenset({vocabulary.eos_id})
    given = np.append([vocabulary.bos_id], ids).astype(np.int32)
    if model.config.objective.name == 'prefix_lm':
        return Begun(given, prefix=len(given), allowed=ends)
    if mode := _mode(model, '[S]'):
        blank = vocabulary.sentinel_ids[:1]
        asked = np.concatenate([mode, ids, blank, [vocabulary.eos_id], blank]).astype(np.int32)
        return Begun(asked, prefix=len(asked) - 1, allowed=ends)
    return Begun(given, allowed=ends)


def _masked(model: LanguageModel, parts: Sequence[str], words: str) -> Begun:
    """What an encoder reads: the parts of a text with a mask between each two."""
    vocabulary = model.tokenizer.vocabulary
    if len(parts) > 1 and vocabulary.mask_id is None:
        raise UserError(f'{words}: has a {BLANK}, and the tokenizer no mask token')
    row = joined(model, parts, [vocabulary.mask_id or 0] * (len(parts) - 1))
    return Begun(np.concatenate([[vocabulary.bos_id], row, [vocabulary.eos_id]]).astype(np.int32))


def _said(model: LanguageModel, parts: Sequence[str]) -> Begun:
    """What two sides read where the decoder says the whole text, of which the first part is given.

    Of a prefix language model the encoder has read the first part, of denoising all parts with
    masks between.
    """
    vocabulary = model.tokenizer.vocabulary
    first, ends = joined(model, parts[:1], ()), frozenset({vocabulary.eos_id})
    given = np.array([model.decoder_start], np.int32)
    if model.config.objective.name == 'prefix_lm':
        source = np.append([vocabulary.bos_id], first)
        return Begun(given, source.astype(np.int32), allowed=ends)
    assert vocabulary.mask_id is not None  # or it could not have been trained
    damaged = joined(model, parts, [vocabulary.mask_id] * (len(parts) - 1))
    source = np.concatenate([[vocabulary.bos_id], damaged, [vocabulary.eos_id]])
    given = np.concatenate([given, [vocabulary.bos_id], first]).astype(np.int32)
    return Begun(given, source.astype(np.int32), allowed=ends)


def _spans(model: LanguageModel, parts: Sequence[str], before: Sequence[int], words: str) -> Begun:
    """What two sides read where the decoder says what stands in each blank.

    The encoder reads the ids `before` first, the decoder its start and the first blank's sentinel.
    """
    vocabulary = model.tokenizer.vocabulary
    blanks, sentinels = len(parts) - 1, vocabulary.sentinel_ids
    if not sentinels:
        raise UserError(
            f'model.name={model.config.model.name}: its tokenizer has no sentinels, by which its '
            'decoder says what stands in a blank; only its logits can be had'
        )
    if blanks > len(sentinels):
        raise UserError(
            f"{words}: has {blanks} blanks; at most {len(sentinels)}, the tokenizer's sentinels"
        )
    marked = joined(model, parts, sentinels[:blanks])
    source = np.concatenate([before, marked, [vocabulary.eos_id]]).astype(np.int32)
    given = np.array([model.decoder_start, sentinels[0]], np.int32)
    return Begun(given, source, allowed=frozenset({vocabulary.eos_id, *sentinels}))


def _mode(model: LanguageModel, mode: str) -> list[int]:
    """The mode token that the model was trained to read first, if it was."""
    if model.config.objective.name != 'ul2':
        return []
    return [model.tokenizer.vocabulary.mode_ids[MODES.index(mode)]]
