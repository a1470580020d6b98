"""One run of a sweep, by itself in a process: `python -m lm.sweep.job FOLDER`.

Its folder is a workdir like any other, with two files more: `job.json`, what is to run, and
`row.json`, what came of it. A run without a row has not ended; started again it goes on from its
checkpoint.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm.config import Config
from lm.errors import UserError
from lm.fields import flatten
from lm.named_configs import run_file
from lm.resolution import from_json, to_json
from lm.training.workdir import Workdir, write_json

KEY_LENGTH = 12

Row = dict[str, Any]


def config_key(config: Config) -> str:
    """The name of a run: a hash of its resolved config, hexadecimal."""
    text = json.dumps(to_json(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class Job:
    """A run that is to be made.

    Attributes:
      name: what the experiment calls it.
      config: resolved.
      folder: of this run alone; its last part is the config's key.
      files: of the user, run first: they register members that the config names.
      columns: paths of config fields that the row tells, beside what every row has.
    """

    name: str
    config: Config
    folder: Path
    files: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def write(self) -> None:
        """Writes `job.json`, for the process that will make the run."""
        Workdir(self.folder).create()
        told = {'name': self.name, 'files': self.files, 'columns': self.columns}
        write_json(self.folder / 'job.json', told | {'config': to_json(self.config)})

    def row(self) -> Row | None:
        """What came of it, or None where it has not ended."""
        return read_row(self.folder)

    def begun(self) -> Row:
        """What a row says of a run before it is made."""
        flat, budget = flatten(self.config), self.config.train.flops
        return {
            'run': self.folder.name,
            'name': self.name,
            # Of an iso-FLOP grid, what the run was meant to cost; its steps come to `flops`.
            **({} if budget is None else {'budget': budget}),
            **{path: flat.get(path) for path in self.columns},
        }

    def write_failure(self, error: str) -> Row:
        """Writes the row of a run that ended without one of its own."""
        row = _failed(self, error)
        write_json(self.folder / 'row.json', row)
        return row


def read_job(folder: Path) -> Job:
    """The job whose `job.json` lies there; the user's files are run."""
    told = json.loads((folder / 'job.json').read_text(encoding='utf-8'))
    for file in told['files']:
        run_file(file, '--experiment')
    config = from_json(told['config'])
    return Job(told['name'], config, folder, tuple(told['files']), tuple(told['columns']))


def read_row(folder: Path) -> Row | None:
    """The row of the run in a folder, or None."""
    try:
        row: Row = json.loads((folder / 'row.json').read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    return row


def perform(folder: str | Path) -> Row:
    """Makes the run whose job lies in `folder`, or goes on with it, and writes its row.

    A failure is a row too, with its `error`. While one process is at it another waits, and then
    finds the row.

    Raises:
      SystemExit: a signal asked for the end: the state is saved, and there is no row.
    """
    folder = Path(folder)
    with _alone(folder):
        row = read_row(folder)
        if row is None:
            job = read_job(folder)
            try:
                row = _made(job)
            except UserError as error:
                row = _failed(job, str(error))
            except Exception as error:
                traceback.print_exc()
                row = _failed(job, f'{type(error).__name__}: {str(error).partition(chr(10))[0]}')
            write_json(folder / 'row.json', row)
    return row


def _made(job: Job) -> Row:
    # Imported here: jax takes seconds, and a row that is there needs none.
    from lm.training.record import total
    from lm.training.run import train

    summary = train(job.config, job.folder)
    data = summary['data']
    unique = sum(account['train']['tokens'] for account in data.values())
    if batches := job.config.data.overfit_batches:
        settings = job.config.train
        unique = min(unique, batches * settings.batch_size * settings.seq_len)
    return job.begun() | {
        'error': None,
        **{name: summary[name] for name in ('params', 'params_non_embedding')},
        'tokens': total(data)['tokens']['trained_on'],
        'unique_tokens': unique,
        'flops': summary['flops'],
        'flops_rule': summary['flops_rule'],
        'loss': summary['eval_loss'],
        'bits_per_byte': summary['bits_per_byte'],
        'final_loss': summary['final_loss'],
        'steps': summary['steps'],
        'seconds': summary['seconds'],
    }


def _failed(job: Job, error: str) -> Row:
    return job.begun() | {'error': error}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A context that one process at a time is in; the system ends it with the process."""
    with (folder / 'lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end_with_parent() -> None:
    """Asks this process to end, its state saved, once the pipe to the sweep is closed."""

    def listen() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()


if __name__ == '__main__':
    _end_with_parent()
    perform(sys.argv[1])
