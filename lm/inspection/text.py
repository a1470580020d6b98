"""A text as a model reads it when it is looked into."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from lm.batch import Batch
from lm.config import require
from lm.errors import UserError
from lm.generation.begin import BLANK, Begun, begin, require_fits
from lm.generation.language_model import LanguageModel
from lm.generation.rows import padded_rows


class Read(NamedTuple):
    """One text, read as `lm.generate` reads it.

    Attributes:
      begun: what is read before the first token that is asked for.
      given: int32 ids of the side that predicts: `begun.given`, and the target's behind them.
      batch: one row of both sides, padded behind.
    """

    begun: Begun
    given: Int[np.ndarray, ' n']
    batch: Batch


def read_text(model: LanguageModel, text: str, target: str = '') -> Read:
    """A text in the form in which `lm.generate` would go on from it, or fill its blanks.

    Args:
      model: of any family.
      text: of an encoder or encoder-decoder, `<mask>` in it is a blank.
      target: what the decoder of an encoder-decoder has said already.

    Raises:
      UserError: the text is empty or longer than the context, a decoder's has a blank, a target is
        given to a model of one side, or the model is a module of the user's own.
    """
    name, family = model.config.model.name, model.functional.family
    require(
        model.functional.by_policy,
        f'model.name={name}: is a module of yours; only models of lm.models.model.Model can be '
        'looked into',
    )
    require(bool(text), 'text: is empty; give what the model is to read')
    require(
        not target or family == 'encoder_decoder',
        f'target: {name} is an {family}, and has one side; leave it out',
    )
    fill = BLANK in text
    require(
        not fill or model.fills_blanks,
        f'text: has a {BLANK}, and {name} only continues text; leave it out',
    )
    for words, said in (('text', text), ('target', target)):
        try:
            said.encode()
        except UnicodeEncodeError as error:
            raise UserError(f'{words}: is not UTF-8 ({error.reason})') from None
    begun = begin(model, text, fill=fill, words='text')
    given = np.concatenate([begun.given, model.tokenizer.encode(target)]).astype(np.int32)
    for words, ids in (('text', begun.source), ('target' if target else 'text', given)):
        require_fits(model, 0 if ids is None else len(ids), words)
    return Read(begun, given, one_row(model, begun, given))


def spelled(model: LanguageModel, ids: Int[np.ndarray, ' n']) -> tuple[str, ...]:
    """A readable piece for each id."""
    pieces = model.tokenizer.vocabulary.pieces
    if pieces is not None:
        return tuple(pieces(ids))
    return tuple(model.tokenizer.decode([i]) or f'<{i}>' for i in map(int, ids))


def one_row(model: LanguageModel, begun: Begun, given: Int[np.ndarray, ' n']) -> Batch:
    """The batch of one text of which the side that predicts has read the ids `given`."""
    row = padded_rows(model, [given])
    if begun.source is not None:
        return Batch(*padded_rows(model, [begun.source]), *row)
    if begun.prefix is None:
        return Batch(*row)
    return Batch(*row, prefix=np.arange(row[0].shape[1])[None] < begun.prefix)
