"""Scores a text under a trained model: nats per token and bits per byte, as one JSON object.

Beside the score stands how much of the text was in the model's training text, by 13-grams as GPT-3
checks it: that text is read once more, so its files must still be there.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lm.errors import UserError
from lm.flags import Flags

from ._files import read_text
from ._model import define_model, load_model

if TYPE_CHECKING:
    from lm.data.sources import Source


def define_flags(flags: Flags) -> None:
    """The model and the text."""
    define_model(flags)
    flags.define('text', str, '', 'a UTF-8 file, scored as one text')
    flags.define('batch_size', int, 16, 'windows scored at once')
    flags.define('json', bool, True, 'print one JSON object; false: a line for people')
    flags.define(
        'overlap', bool, True, 'compare with the training text; false: that is not read again'
    )
    flags.define(
        'training_text', str, '',
        "what it is compared with instead of the run's own text, as data.source takes one",
    )  # fmt: skip


def main(flags: Flags) -> None:
    """Prints the score."""
    if flags['batch_size'] < 1:
        raise UserError(f'--batch_size={flags["batch_size"]}: must be at least 1')
    if flags['training_text'] and not flags['overlap']:
        raise UserError(f'--training_text={flags["training_text"]}: not with --nooverlap')
    text = read_text('text', flags.required('text'))
    from lm.evaluation.text import score_text
    from lm.training.trained_text import open_training_text

    training = open_training_text(flags['training_text']) if flags['training_text'] else None
    score = score_text(load_model(flags), text, flags['batch_size'])
    if flags['overlap']:
        score |= _overlap(flags, training, [text])
    if flags['json']:
        print(json.dumps(score))
    else:
        print(', '.join(f'{name} {value}' for name, value in score.items()))


def _overlap(flags: Flags, training: 'Source | None', texts: Sequence[str]) -> dict[str, Any]:
    """What the texts share with the training text, or why that is not known."""
    from lm.training.trained_text import FOREIGN, run_overlap, source_overlap, unknown_overlap

    if training is not None:
        return source_overlap(training, texts)
    return unknown_overlap(FOREIGN) if flags['hf'] else run_overlap(flags['workdir'], texts)
