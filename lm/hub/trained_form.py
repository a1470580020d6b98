"""`lm.json`: the form in which an exported model was trained, which no file of theirs can say.

Transformers passes the file over. With it a folder is again what the run was: a prefix is seen both
ways, a mode is read first, and texts are scored in windows as long as the rows were.
"""

import json
from pathlib import Path
from typing import Any

from lm.config import Config
from lm.errors import UserError
from lm.resolution import from_json, resolve, to_json

NAME = 'lm.json'


def write_form(folder: Path, config: Config) -> None:
    """Writes the objective, with its options, and `train.seq_len`.

    Raises:
      OSError: the disk refuses.
    """
    tree = {'objective': to_json(config.objective), 'train': {'seq_len': config.train.seq_len}}
    (folder / NAME).write_text(json.dumps(tree, indent=2) + '\n', encoding='utf-8')


def with_form(config: Config, folder: Path) -> Config:
    """`config` in the form that the folder's `lm.json` tells; as it is where there is none.

    Raises:
      UserError: the file is not what `write_form` writes, or names what does not exist or does not
        go with the model.
    """
    path = folder / NAME
    try:
        tree = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError):
        return config
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not JSON ({error})') from error
    if not _is_form(tree):
        raise UserError(
            f'{path}: must hold objective, with its name, and train, with its seq_len, and nothing '
            'else; without the file the model is taken for what its architecture says'
        )
    whole = to_json(config)
    told = {**whole, 'objective': tree['objective'], 'train': {**whole['train'], **tree['train']}}
    try:
        return resolve(from_json(told))
    except UserError as error:
        raise UserError(f'{path}: {error}') from error


def _is_form(tree: Any) -> bool:
    if not (isinstance(tree, dict) and {*tree} == {'objective', 'train'}):
        return False
    objective, train = tree['objective'], tree['train']
    named = isinstance(objective, dict) and isinstance(objective.get('name'), str)
    return named and isinstance(train, dict) and {*train} == {'seq_len'}
