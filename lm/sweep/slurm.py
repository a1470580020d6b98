"""Runs of a sweep as an array of Slurm jobs, by `submitit`."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lm.errors import UserError
from lm.sweep.job import Job, Row, perform

LOOK_SECONDS = 2.0


class Performance:
    """What an array task does; submitit asks it what to do after a time limit or preemption."""

    def __call__(self, folder: str) -> Row:
        """Makes the run in `folder`."""
        return perform(folder)

    def checkpoint(self, folder: str) -> Any:
        """The same again: the run goes on from its checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, folder)


def run_on_slurm(
    jobs: list[Job],
    folder: Path,
    at_once: int,
    parameters: Mapping[str, Any],
    ended: Callable[[Job, Row | None], None],
    cluster: Literal['slurm', 'local'] = 'slurm',
) -> None:
    """Makes the runs as one array, and waits for its end.

    Args:
      jobs: their `job.json` is written.
      folder: submitit's own files; shared by all nodes, as the jobs' folders are.
      at_once: tasks of the array that may run at the same time.
      parameters: of submitit, such as `timeout_min`, `gpus_per_node` or `slurm_partition`.
      ended: hears of each run that ended; the row is None where it was cancelled.
      cluster: `local` runs the tasks on this machine, without Slurm.

    Raises:
      UserError: submitit is not installed, Slurm is not there, or a parameter is none of theirs.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("launcher=slurm: needs submitit: pip install 'lm-lab[slurm]'") from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{'slurm_array_parallelism': at_once, **parameters})
        tasks = executor.map_array(Performance(), [str(job.folder.resolve()) for job in jobs])
    except (NameError, TypeError, ValueError, RuntimeError, OSError) as error:
        message = str(error).partition('\n')[0]
        raise UserError(f'launcher=slurm: {message}') from None
    waiting = list(zip(jobs, tasks, strict=True))
    while waiting:
        for pair in [pair for pair in waiting if pair[1].done()]:
            waiting.remove(pair)
            ended(pair[0], _row_of(*pair))
        if waiting:
            time.sleep(LOOK_SECONDS)


def _row_of(job: Job, task: Any) -> Row | None:
    row = job.row()
    if row is not None:
        return row
    with contextlib.suppress(Exception):
        if task.state.startswith('CANCELLED'):
            return None
    error = task.exception()
    if error is None:
        # It has one, which a shared disk does not show here yet.
        made: Row = task.result()
        return made
    return job.write_failure(str(error).strip().split('\n')[-1])
