"""The folder of a run: its files by name, and what a later run may change in it."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm.config import Config, from_json, to_json
from lm.fields import flatten
from lm.errors import UserError

FIXED = ('model', 'objective', 'data', 'optim', 'precision')
"""Sections that a resumed run must agree with."""
FIXED_FIELDS = ('train.batch_size', 'train.seq_len', 'train.seed')
FREE_FIELDS = ('data.cache_dir',)


class Workdir:
    """A run's folder; `config.json` in it says that a run has begun there."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()

    config_file = property(lambda self: self.path / 'config.json')
    metrics_file = property(lambda self: self.path / 'metrics.jsonl')
    eval_file = property(lambda self: self.path / 'eval.jsonl')
    history_file = property(lambda self: self.path / 'history.jsonl')
    summary_file = property(lambda self: self.path / 'summary.json')
    tokenizer_file = property(lambda self: self.path / 'tokenizer.model')
    loss_plot = property(lambda self: self.path / 'loss.png')
    checkpoints = property(lambda self: self.path / 'checkpoints')
    tensorboard = property(lambda self: self.path / 'tensorboard')

    def create(self) -> None:
        """Makes the folder.

        Raises:
          UserError: a file stands in its place, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f'workdir={self.path}: is a file; give a folder') from error
        except OSError as error:
            raise UserError(f'workdir={self.path}: cannot be made ({error.strerror})') from error
        if not os.access(self.path, os.W_OK):
            raise UserError(f'workdir={self.path}: cannot be written to')

    def read_config(self) -> Config | None:
        """The config of the run that is there, or None.

        Raises:
          UserError: it is not one that this version wrote.
        """
        if self.path.is_file():
            raise UserError(f'workdir={self.path}: is a file; give a folder')
        if not self.config_file.exists():
            return None
        try:
            return from_json(json.loads(self.config_file.read_text()))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f'{self.config_file}: is not JSON ({error})') from error
        except UserError as error:
            raise UserError(f'{self.config_file}: {error}') from error

    def write_config(self, config: Config) -> None:
        """Writes `config.json` whole or not at all."""
        write_json(self.config_file, to_json(config))

    def add_history(self, step: int, changes: Mapping[str, tuple[Any, Any]]) -> None:
        """Appends a line of what a resumed run set otherwise, and from which step on."""
        row = {
            'step': step,
            'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
            'changes': {path: list(pair) for path, pair in changes.items()},
        }
        append_jsonl(self.history_file, row)


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """The fields of two configs that differ, by dotted path: (before, after).

    `options` of unlike members are told by the member's name alone.
    """
    old, new = flatten(before), flatten(after)
    return {
        path: (old[path], new[path])
        for path in old
        if path in new and old[path] != new[path]
    }


def is_fixed(path: str) -> bool:
    """Whether a resumed run must have the same value in this field."""
    if path in FREE_FIELDS:
        return False
    return path.split('.')[0] in FIXED or path in FIXED_FIELDS


def write_json(path: Path, tree: Any) -> None:
    """Writes JSON through a temporary file, so a kill leaves the old file or the new one.

    Raises:
      UserError: the disk refuses.
    """
    temporary = path.with_name(path.name + '.tmp')
    try:
        temporary.write_text(json.dumps(tree, indent=2) + '\n')
        temporary.replace(path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from error


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one line of JSON.

    Raises:
      UserError: the disk refuses.
    """
    try:
        with path.open('a') as file:
            file.write(json.dumps(row) + '\n')
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split('\n')
    return [json.loads(line) for line in lines[:-1] if line]


def cut_jsonl(path: Path, step: int) -> None:
    """Drops the rows of steps after `step`: those steps will be taken again."""
    rows = read_jsonl(path)
    kept = [row for row in rows if row['step'] <= step]
    if path.exists():
        temporary = path.with_name(path.name + '.tmp')
        temporary.write_text(''.join(json.dumps(row) + '\n' for row in kept))
        temporary.replace(path)
