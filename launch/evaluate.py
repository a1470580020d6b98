"""Scores a text under a trained model: nats per token and bits per byte, as one JSON object."""

import json
from pathlib import Path

from lm.errors import UserError
from lm.flags import Flags


def define_flags(flags: Flags) -> None:
    """The model and the text."""
    flags.define('workdir', str, '', "the run's folder")
    flags.define('text', str, '', 'a UTF-8 file, scored as one text')
    flags.define('batch_size', int, 16, 'windows scored at once')
    flags.define('json', bool, True, 'print one JSON object; false: a line for people')


def main(flags: Flags) -> None:
    """Prints the score."""
    workdir, path = flags.required('workdir'), Path(flags.required('text'))
    if flags['batch_size'] < 1:
        raise UserError(f'--batch_size={flags["batch_size"]}: must be at least 1')
    text = _read(path)
    from lm.training.load import load
    from lm.evaluation.text import score_text

    score = score_text(load(workdir), text, flags['batch_size'])
    if flags['json']:
        print(json.dumps(score))
    else:
        print(', '.join(f'{name} {value}' for name, value in score.items()))


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f'--text={path}: cannot be read ({error.strerror})') from error
    except UnicodeDecodeError as error:
        raise UserError(
            f'--text={path}: byte {error.start} is not UTF-8; convert it (iconv)'
        ) from error
    if not text:
        raise UserError(f'--text={path}: is empty')
    return text
