"""The score of one text under a model."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import jax
import numpy as np

from lm.batch import Batch, stack
from lm.errors import UserError
from lm.evaluation.heldout import require_finite, score_batches
from lm.generation.language_model import LanguageModel
from lm.objectives._objective import SaysTexts, Sums, build_objective, weighted_cross_entropy
from lm.shapes import Params


def score_text(model: LanguageModel, text: str, batch_size: int) -> dict[str, Any]:
    """Loss and bits per byte of a text, asked for in the form that the model was trained in.

    Every token of the text is a target once, from nothing but what comes before it; how much of
    that a row shows, the objective says (`SaysTexts.text_rows`). Rows are those of `train.seq_len`.
    Bits per byte count every UTF-8 byte of the text.

    Args:
      model: of an objective that says texts from beginning to end.
      text: any text.
      batch_size: rows scored at once.

    Returns:
      `loss` (nats per token), `bits_per_byte`, `tokens`, `unknown_tokens` of them that stand for
      what the tokenizer does not know (where there are any, bits per byte leave out what they stand
      for, and flatter), `bytes`, `seq_len`, `objective`.

    Raises:
      UserError: the objective has no such form, so the model gives a text no likelihood; or the
        likelihood is not finite.
    """
    name, functional = model.config.objective.name, model.functional
    objective = build_objective(model.config, model.tokenizer.vocabulary)
    if not isinstance(objective, SaysTexts):
        raise UserError(
            f'--text: {model.config.model.name} was trained by objective.name={name}, which asks '
            'for parts of a text from what is around them: that is no likelihood of a text; '
            'give a model of clm, prefix_lm or ul2'
        )

    @jax.jit
    def nats(params: Params, batch: Batch) -> Sums:
        return weighted_cross_entropy(functional.apply(params, batch), batch)

    tokens = model.tokenizer.encode(text)
    score = score_batches(nats, model.params, _batches(objective.text_rows(tokens), batch_size))
    require_finite(score.nats)
    size = len(text.encode())
    return {
        'loss': score.loss,
        'bits_per_byte': score.bits_per_byte(size),
        'tokens': len(tokens),
        'unknown_tokens': int((tokens == model.tokenizer.vocabulary.unk_id).sum()),
        'bytes': size,
        'seq_len': model.config.train.seq_len,
        'objective': name,
    }


def _batches(rows: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """Rows as batches of one shape: the last is filled with copies that count nothing."""
    rows = iter(rows)
    for first in rows:
        here = [first, *islice(rows, batch_size - 1)]
        assert first.loss_weights is not None
        idle = first._replace(loss_weights=np.zeros_like(first.loss_weights))
        yield stack([*here, *[idle] * (batch_size - len(here))])
