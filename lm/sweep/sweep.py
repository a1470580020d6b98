"""A sweep's folder: which runs there are, which have ended, and their rows.

`runs/KEY/` is the workdir of a run, KEY a hash of its config, so that the same config is never run
twice, whatever it is called. `runs.jsonl` has a row for each that ended, in the order of the
experiment; it is put together anew from the runs' own rows, so no kill can tear it.
"""

import contextlib
import fcntl
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from lm.config import Config
from lm.data.mixture import prepare_mixture
from lm.errors import UserError
from lm.fields import flatten
from lm.objectives._labelled import example_codec
from lm.resolution import resolve
from lm.sweep.job import Job, Row, config_key
from lm.training.workdir import Workdir, write_jsonl

Launcher: TypeAlias = Callable[[list[Job], Callable[[Job, Row | None], None]], None]
"""Makes runs, and calls for each that ended, with its row; None where a signal ended it."""


@dataclass(frozen=True)
class Sweep:
    """The runs of an experiment in a folder.

    Attributes:
      folder: made if need be.
      configs: of the runs, by what the experiment calls them.
      files: the user's files that register members, run first in every process.
    """

    folder: Path
    configs: Mapping[str, Config]
    files: tuple[str, ...] = ()

    runs_file = property(lambda self: self.folder / 'runs.jsonl')

    @cached_property
    def jobs(self) -> list[Job]:
        """All runs, in order.

        Raises:
          UserError: there are none, a config does not resolve, or two are the same.
        """
        if not self.configs:
            raise UserError('experiment: yields no configs')
        resolved = {name: resolve(config) for name, config in self.configs.items()}
        columns = _differing(list(resolved.values()))
        found: dict[str, Job] = {}
        for name, config in resolved.items():
            key = config_key(config)
            if key in found:
                raise UserError(f'experiment: the runs {found[key].name} and {name} are the same')
            found[key] = Job(name, config, self.folder / 'runs' / key, self.files, columns)
        return list(found.values())

    def pending(self, *, retry_failed: bool = False) -> list[Job]:
        """The runs without a row, or with that of a failure where those are tried again."""
        return [job for job in self.jobs if _to_do(job.row(), retry_failed)]

    def begin(self, jobs: list[Job], *, retry_failed: bool = False) -> None:
        """Prepares the text of all jobs, once and here, and writes what their processes read.

        Raises:
          UserError: the text or the disk refuses.
        """
        prepared = set()
        for job in jobs:
            codec = example_codec(job.config)
            wanted = (job.config.data, job.config.model.vocab_size, codec)
            if wanted not in prepared:
                prepared.add(wanted)
                prepare_mixture(*wanted)
            job.write()
            if retry_failed:
                (job.folder / 'row.json').unlink(missing_ok=True)

    def gather(self) -> list[Row]:
        """The rows of the runs that ended, in order, written to `runs.jsonl`.

        What the experiment calls them, and which fields tell them apart, is as it is now.
        """
        rows = [row | job.begun() for job in self.jobs if (row := job.row()) is not None]
        write_jsonl(self.runs_file, rows)
        return rows

    def make(self, launch: Launcher, *, retry_failed: bool = False) -> list[Row]:
        """Makes the runs that are left, telling of each on stderr; returns all rows.

        Args:
          launch: makes jobs, and calls back for each that ended: `run_here`, or on Slurm.
          retry_failed: those that failed too.

        Raises:
          UserError: another sweep is at work in the folder, or the text or the disk refuses.
        """
        with self.held():
            jobs = self.pending(retry_failed=retry_failed)
            count, begun = len(self.configs), time.monotonic()
            done = count - len(jobs)
            _tell(f'{count} runs, {done} of them have ended, {len(jobs)} to do')
            self.begin(jobs, retry_failed=retry_failed)

            def ended(job: Job, row: Row | None) -> None:
                nonlocal done
                done += row is not None
                self.gather()
                seconds = time.monotonic() - begun
                _tell(f'[{done}/{count}] {job.name}  {_outcome(row)}  ({seconds:.0f} s)')

            if jobs:
                launch(jobs, ended)
            return self.gather()

    def others(self) -> int:
        """How many runs lie in the folder that are none of these."""
        own = {job.folder.name for job in self.jobs}
        folder = self.folder / 'runs'
        return sum(path.name not in own for path in folder.iterdir()) if folder.is_dir() else 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A context in which no other sweep may work in the folder.

        Raises:
          UserError: another one does.
        """
        Workdir(self.folder).create()
        with (self.folder / 'sweep.lock').open('w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f'workdir={self.folder}: another sweep is at work there; wait for it, or end it'
                ) from None
            yield


def _outcome(row: Row | None) -> str:
    if row is None:
        return 'ended by a signal; goes on when the sweep is started again'
    return f'loss {row["loss"]:.4f}' if row['error'] is None else f'FAILED: {row["error"]}'


def _tell(words: str) -> None:
    print(f'sweep: {words}', file=sys.stderr, flush=True)


def _to_do(row: Row | None, retry_failed: bool) -> bool:
    return row is None or (retry_failed and row['error'] is not None)


def _differing(configs: list[Config]) -> tuple[str, ...]:
    """Paths of the fields in which the configs differ."""
    flat = [flatten(config) for config in configs]
    paths = dict.fromkeys(path for one in flat for path in one)
    return tuple(
        path for path in paths if len({json.dumps(one.get(path), default=str) for one in flat}) > 1
    )
