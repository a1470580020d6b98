"""Runs of a sweep on this machine, so many at a time, each a process with its share of it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lm.errors import UserError
from lm.sweep.job import Job, Row

LOOK_SECONDS = 0.1
COMMAND = (sys.executable, '-m', 'lm.sweep.job')
"""What makes a run, before the run's folder."""
ENDED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
"""Statuses of a run that was asked to end: with its state saved, or before there was any."""
FOUND_IN = str(Path(__file__).parents[2])
"""Where this `lm` lies, for the processes that run it too."""
LAST_WORDS = 200
"""Letters of the end of a log that tell why a process died."""


@dataclass(frozen=True)
class Place:
    """A share of the machine: cores, and GPUs by what CUDA_VISIBLE_DEVICES calls them."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None


def places(at_once: int, cores: list[int], gpus: list[str]) -> list[Place]:
    """`at_once` shares of the machine, as equal as may be.

    Raises:
      UserError: there are fewer cores, or fewer GPUs where there are any.
    """
    for what, found in (('cores', cores), ('GPUs', gpus)):
        if found and not 1 <= at_once <= len(found):
            raise UserError(f'at_once={at_once}: between 1 and the {len(found)} {what} there are')
    return [
        Place(tuple(cores[i::at_once]), tuple(gpus[i::at_once]) if gpus else None)
        for i in range(at_once)
    ]


def cores_here() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus_here() -> list[str]:
    """The NVIDIA GPUs that this process may use; asks no library, which would take memory there."""
    if os.environ.get('JAX_PLATFORMS', 'cuda') not in ('cuda', 'gpu'):
        return []
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        # As CUDA reads it: what comes behind a number that is none is not seen.
        known = itertools.takewhile(lambda name: name and name[0] != '-', named.split(','))
        return [name.strip() for name in known if name.strip()]
    return [str(i) for i in range(len(list(Path('/dev').glob('nvidia[0-9]*'))))]


def run_here(jobs: list[Job], at_once: int, ended: Callable[[Job, Row | None], None]) -> None:
    """Makes the runs, `at_once` at a time.

    Args:
      jobs: their `job.json` is written.
      at_once: processes that go at the same time.
      ended: hears of each run that ended; the row is None where a signal ended it.

    Raises:
      UserError: more at once than the machine has cores, or GPUs.
    """
    free = places(at_once, cores_here(), gpus_here())
    waiting = deque(jobs)
    running: list[tuple[Job, Place, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            while waiting and free:
                job, place = waiting.popleft(), free.pop(0)
                running.append((job, place, _start(job, place)))
            time.sleep(LOOK_SECONDS)
            for one in [one for one in running if one[2].poll() is not None]:
                running.remove(one)
                job, place, process = one
                free.append(place)
                ended(job, _row_of(job, process.returncode))
    finally:
        for _, _, process in running:
            process.terminate()  # a run saves its state and ends
        for _, _, process in running:
            process.wait()


def _start(job: Job, place: Place) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [FOUND_IN, os.environ.get('PYTHONPATH')]))
    environment = {**os.environ, 'PYTHONPATH': path}
    if place.gpus is not None:
        environment['CUDA_VISIBLE_DEVICES'] = ','.join(place.gpus)

    def confine() -> None:
        if hasattr(os, 'sched_setaffinity'):
            os.sched_setaffinity(0, place.cores)

    with (job.folder / 'log.txt').open('ab') as log:
        return subprocess.Popen(
            [*COMMAND, str(job.folder)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, preexec_fn=confine,
        )  # fmt: skip


def _row_of(job: Job, status: int) -> Row | None:
    """A run's row; that of a failure where its process died without writing one."""
    row = job.row()
    if row is not None or status in ENDED:
        return row
    log = (job.folder / 'log.txt').read_text(encoding='utf-8', errors='replace')
    why = f'killed by signal {-status}' if status < 0 else f'ended with status {status}'
    return job.write_failure(f'{why}: {" ".join(log[-LAST_WORDS:].split())}')
