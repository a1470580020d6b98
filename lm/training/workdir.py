"""The folder of a run: its files by name, and what a later run may change in it.

All processes of a run call what writes here, and the first one of them writes. A run whose workdir
is in a store has a copy of it on a disk, which everything reads and writes; `mirror.py` brings the
store what changes there.
"""

import atexit
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lm import processes
from lm.config import Config
from lm.errors import UserError
from lm.fields import flatten
from lm.resolution import from_json, to_json
from lm.storage import Store, is_stored
from lm.training.stored_run import StoredRun

FIXED = ('model', 'objective', 'data', 'optim', 'precision')
"""Sections that a resumed run must agree with, but for fields that say `may_change`."""
FIXED_FIELDS = ('train.batch_size', 'train.seq_len', 'train.seed', 'train.z_loss')


class Workdir:
    """A run's folder; `config.json` in it says that a run has begun there.

    Attributes:
      path: the folder, or the copy of one that is in a store.
      name: what it is called: the path, or the address.
      stored: the store; None of a folder on a disk.
    """

    def __init__(self, path: str | Path, words: str = 'workdir', copy: Path | None = None):
        """
        Args:
          path: a folder, or the address of one in a store. Of that the small files are fetched now,
            of a checkpoint what is asked for.
          words: the flag or field that names it, for errors of the store.
          copy: where the copy of a stored one is, for all processes; None: in a temporary folder of
            this process, to be read only.

        Raises:
          UserError: the store refuses.
        """
        self.stored: StoredRun | None = None
        if is_stored(path):
            shared = copy is not None
            if copy is None:
                copy = Path(tempfile.mkdtemp(prefix='lm-'))
                atexit.register(shutil.rmtree, copy, ignore_errors=True)
            self.stored = StoredRun(Store(str(path), f'{words}={path}'), copy, shared=shared)
            self.path, self.name = copy, self.stored.store.address
        else:
            self.path = Path(path).expanduser()
            self.name = str(self.path)

    @property
    def place(self) -> str:
        """The one name of a folder that has several: its real path, or its address."""
        return str(self.path.resolve()) if self.stored is None else self.name

    @property
    def label(self) -> str:
        """The folder's own name."""
        return PurePosixPath(self.place).name

    config_file = property(lambda self: self.path / 'config.json')
    metrics_file = property(lambda self: self.path / 'metrics.jsonl')
    eval_file = property(lambda self: self.path / 'eval.jsonl')
    history_file = property(lambda self: self.path / 'history.jsonl')
    loggers_file = property(lambda self: self.path / 'loggers.json')
    summary_file = property(lambda self: self.path / 'summary.json')
    conversion_file = property(lambda self: self.path / 'conversion.json')
    loss_plot = property(lambda self: self.path / 'loss.png')
    checkpoints = property(lambda self: self.path / 'checkpoints')
    tensorboard = property(lambda self: self.path / 'tensorboard')

    @property
    def tokenizer_file(self) -> Path:
        """`tokenizer.json` where that is what the run has, else `tokenizer.model`."""
        model, other = self.path / 'tokenizer.model', self.path / 'tokenizer.json'
        return other if other.exists() and not model.exists() else model

    def create(self) -> None:
        """Makes the folder.

        Raises:
          UserError: a file stands in its place, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f'workdir={self.name}: is a file; give a folder') from error
        except OSError as error:
            raise UserError(f'workdir={self.name}: cannot be made ({error.strerror})') from error
        if not os.access(self.path, os.W_OK):
            raise UserError(f'workdir={self.name}: cannot be written to')

    def read_config(self) -> Config | None:
        """The config of the run that is there, or None.

        Raises:
          UserError: it is not one that this version wrote.
        """
        if self.path.is_file():
            raise UserError(f'workdir={self.name}: is a file; give a folder')
        if not self.config_file.exists():
            return None
        try:
            tree = json.loads(self.config_file.read_text(encoding='utf-8'))
            if not isinstance(tree, dict):
                raise UserError('is not the config of a run')
            return from_json(tree)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f'{self.config_file}: is not JSON ({error})') from error
        except UserError as error:
            raise UserError(f'{self.config_file}: {error}') from error
        except OSError as error:
            raise UserError(f'{self.config_file}: cannot be read ({error.strerror})') from error

    def write_config(self, config: Config) -> None:
        """Writes `config.json` whole or not at all."""
        write_json(self.config_file, to_json(config))

    def write_tokenizer(self, files: Mapping[str, bytes]) -> None:
        """Writes a tokenizer's files, each whole or not at all.

        Raises:
          UserError: the disk refuses.
        """
        for name, content in files.items():
            _replace(self.path / name, content)

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a run that ended, or None; half a file is none."""
        try:
            summary: dict[str, Any] = json.loads(self.summary_file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None
        return summary

    def read_history(self) -> list[dict[str, Any]]:
        """The lines of `add_history`, oldest first."""
        return read_jsonl(self.history_file)

    def add_history(
        self,
        step: int,
        changes: Mapping[str, tuple[Any, Any]],
        parameters: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Appends a line of what a run set otherwise than before, and from which step on.

        Args:
          step: the first that it is true of.
          changes: (before, after) by name.
          parameters: where some come from elsewhere, which do, as `Matched.lists` tells them.
        """
        row = {
            'step': step,
            'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
            'changes': {path: list(pair) for path, pair in changes.items()},
            **({'parameters': dict(parameters)} if parameters else {}),
        }
        append_jsonl(self.history_file, row)


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """The fields of two configs that differ, options too, by dotted path: (before, after).

    Options that only one of two members has are left to the members' names, which differ.
    """
    old, new = flatten(before), flatten(after)
    return {path: (old[path], new[path]) for path in old if path in new and old[path] != new[path]}


def is_fixed(path: str) -> bool:
    """Whether a resumed run must have the same value in this field."""
    section, _, name = path.partition('.')
    if section not in FIXED:
        return path in FIXED_FIELDS
    fields = {field.name: field for field in dataclasses.fields(getattr(Config(), section))}
    return name not in fields or not fields[name].metadata.get('may_change', False)


def write_json(path: Path, tree: Any) -> None:
    """Writes JSON through a temporary file, so a kill leaves the old file or the new one.

    Raises:
      UserError: the disk refuses.
    """
    _replace(path, (json.dumps(tree, indent=2) + '\n').encode())


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one line of JSON.

    Raises:
      UserError: the disk refuses.
    """
    if not processes.is_first():
        return
    try:
        with path.open('a') as file:
            file.write(json.dumps(row) + '\n')
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line cut short by a kill is left out.

    Raises:
      UserError: another line is not JSON, or no object.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding='utf-8', errors='replace').split('\n')
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f'{path}: line {number} is not JSON; mend or remove it') from error
        if not isinstance(row, dict):
            raise UserError(f'{path}: line {number} is no JSON object; mend or remove it')
        rows.append(row)
    return rows


def cut_jsonl(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Drops the rows that `keep` refuses: those of steps that will be taken again.

    Raises:
      UserError: a line is not JSON, or the disk refuses.
    """
    if path.exists() and processes.is_first():
        write_jsonl(path, [row for row in read_jsonl(path) if keep(row)])


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one line of JSON a row, all of them or none.

    Raises:
      UserError: the disk refuses.
    """
    _replace(path, ''.join(json.dumps(row) + '\n' for row in rows).encode())


def _replace(path: Path, content: bytes) -> None:
    if not processes.is_first():
        return
    temporary = path.with_name(path.name + '.tmp')
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f'{path}: cannot be written ({error.strerror})') from error
