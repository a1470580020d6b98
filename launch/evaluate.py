"""Scores a text under a trained model: nats per token and bits per byte, as one JSON object."""

import json

from lm.errors import UserError
from lm.flags import Flags

from ._files import read_text
from ._model import define_model, load_model


def define_flags(flags: Flags) -> None:
    """The model and the text."""
    define_model(flags)
    flags.define('text', str, '', 'a UTF-8 file, scored as one text')
    flags.define('batch_size', int, 16, 'windows scored at once')
    flags.define('json', bool, True, 'print one JSON object; false: a line for people')


def main(flags: Flags) -> None:
    """Prints the score."""
    if flags['batch_size'] < 1:
        raise UserError(f'--batch_size={flags["batch_size"]}: must be at least 1')
    text = read_text('text', flags.required('text'))
    from lm.evaluation.text import score_text

    score = score_text(load_model(flags), text, flags['batch_size'])
    if flags['json']:
        print(json.dumps(score))
    else:
        print(', '.join(f'{name} {value}' for name, value in score.items()))
