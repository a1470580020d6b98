"""A Slurm cluster: one job of srun tasks, saved and requeued before its time is over.

The batch script is written to --logs and given to sbatch. Each task is one process of the run, on
one GPU where there are any; they find each other by the job's node list. --signal_seconds before
the time limit the run saves and the job is requeued: the same script goes on. A failed task ends
the job within a minute. `-- sweep ...` becomes `lm sweep --launcher=slurm`, an array of jobs.
"""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lm.errors import UserError
from lm.fields import setting

from ._command import PROGRAM, connected, emulating, require_devices

Argv = tuple[str, ...]

TIME = re.compile(r'(\d+-)?\d+(:\d+){0,2}')
ALONE_SECONDS = 60
"""For the other tasks to end by themselves once one has: they say which process died."""


@dataclass(frozen=True)
class Setting:
    """What is asked of Slurm."""

    nodes: int = setting(1, 'machines')
    tasks_per_node: int | None = setting(None, 'processes on each; none: one a GPU, or one')
    gpus_per_node: int = setting(0, 'GPUs of each')
    cpus_per_task: int | None = setting(None, 'cores of each process; none: as the cluster says')
    devices: int | None = setting(None, 'emulated CPU devices of each process, without GPUs')
    time: str = setting('', 'limit, as sbatch takes it: 24:00:00; empty: that of the partition')
    partition: str = setting('', 'empty: the default one')
    account: str = setting('', 'empty: the default one')
    job_name: str = setting('lm', 'of the job, its script and its log')
    signal_seconds: int = setting(120, 'before the time limit, to save; 0: no signal')
    requeue: bool = setting(True, 'put the job back in the queue once it has saved')
    logs: str = setting('logs', 'folder of the batch script and the output')
    extra: tuple[str, ...] = setting((), 'more options of sbatch, such as --exclusive,--mem=0')


def describe(setting: Setting, command: Argv) -> str:
    """What a shell would have to execute: the folder, the batch script, and sbatch."""
    if command[0] == 'sweep':
        return shlex.join(_sweep(setting, command))
    path, script, submit = _job(setting, command)
    return '\n'.join([
        shlex.join(('mkdir', '-p', str(path.parent))),
        f"cat > {shlex.quote(str(path))} << 'END_OF_SCRIPT'",
        f'{script}END_OF_SCRIPT',
        shlex.join(submit),
    ])  # fmt: skip


def start(setting: Setting, command: Argv) -> int:
    """Gives the job to Slurm; a sweep is waited for. Returns the status.

    Raises:
      UserError: there is no Slurm here, or a setting does not fit.
    """
    if command[0] == 'sweep':
        return subprocess.run(_sweep(setting, command)).returncode
    path, script, submit = _job(setting, command)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding='utf-8')
    try:
        return subprocess.run(submit).returncode
    except FileNotFoundError:
        raise UserError('slurm: sbatch is not here; launch on a machine of the cluster') from None


def _job(setting: Setting, command: Argv) -> tuple[Path, str, Argv]:
    """The batch script's file, its text, and what submits it."""
    tasks = setting.tasks_per_node or setting.gpus_per_node or 1
    _require(setting, tasks)
    count = setting.nodes * tasks
    if setting.devices is not None or setting.gpus_per_node:
        require_devices(command, count * (setting.devices or 1))
    path = Path(setting.logs) / f'{setting.job_name}.sh'
    run = _srun(setting, connected(command, count, ('--distributed',)))
    return path, _script(setting, tasks, run), ('sbatch', str(path))


def _require(setting: Setting, tasks: int) -> None:
    """Refuses numbers that are none, and what JAX does not do under Slurm.

    Raises:
      UserError: the flag, its value, and what would be right.
    """
    for name in ('nodes', 'tasks_per_node', 'cpus_per_task', 'devices'):
        value = getattr(setting, name)
        if value is not None and value < 1:
            raise UserError(f'--{name}={value}: must be at least 1')
    for name in ('gpus_per_node', 'signal_seconds'):
        if getattr(setting, name) < 0:
            raise UserError(f'--{name}={getattr(setting, name)}: must be at least 0')
    if setting.time and not TIME.fullmatch(setting.time):
        raise UserError(
            f'--time={setting.time}: must be MINUTES, HOURS:MINUTES:SECONDS or '
            'DAYS-HOURS:MINUTES:SECONDS'
        )
    if not re.fullmatch(r'[\w.-]+', setting.job_name):
        raise UserError(f'--job_name={setting.job_name}: must be letters, digits, _, . and -')
    if not setting.logs:
        raise UserError('--logs: missing; give a folder')
    if setting.gpus_per_node and setting.devices is not None:
        raise UserError(f'--devices={setting.devices}: emulates CPU devices; leave out GPUs')
    if setting.gpus_per_node and tasks != setting.gpus_per_node:
        raise UserError(
            f'--tasks_per_node={tasks}: under Slurm each process drives one of the '
            f'{setting.gpus_per_node} GPUs; leave it out'
        )
    for word in setting.extra:
        if not word.startswith('-'):
            raise UserError(f'--extra={word}: must be an option of sbatch, such as --exclusive')


def _srun(setting: Setting, command: Argv) -> str:
    """The line that starts all tasks; `--wait` ends those that outlive another one."""
    environment = () if setting.devices is None else emulating(setting.devices)
    options = [f'--wait={ALONE_SECONDS}']
    if setting.cpus_per_task:
        options.append(f'--cpus-per-task={setting.cpus_per_task}')  # srun takes no other's word
    return shlex.join(('srun', *options, *environment, *PROGRAM, *command))


def _script(setting: Setting, tasks: int, run: str) -> str:
    """The batch script."""
    log = Path(setting.logs) / '%x-%j.log'
    options = [
        f'--job-name={setting.job_name}',
        f'--nodes={setting.nodes}',
        f'--ntasks-per-node={tasks}',
        *([f'--gpus-per-node={setting.gpus_per_node}'] if setting.gpus_per_node else []),
        *([f'--cpus-per-task={setting.cpus_per_task}'] if setting.cpus_per_task else []),
        *([f'--time={setting.time}'] if setting.time else []),
        *([f'--partition={setting.partition}'] if setting.partition else []),
        *([f'--account={setting.account}'] if setting.account else []),
        f'--output={log}',
        '--open-mode=append',
        '--requeue' if setting.requeue else '--no-requeue',
        *([f'--signal=B:USR1@{setting.signal_seconds}'] if setting.signal_seconds else []),
        *setting.extra,
    ]
    for option in options:
        if '\n' in option:
            raise UserError(f'{option}: must be one line')
    head = '\n'.join(f'#SBATCH {shlex.quote(option)}' for option in options)
    return f'#!/bin/bash\n{head}\n\n{BODY.format(run=run, after=AFTER[setting.requeue])}'


BODY = """\
# Before the time limit, or by `scancel --signal=USR1 --batch JOB`: the run saves and ends.
save() {{
  saving=yes
  scancel --signal=TERM "$SLURM_JOB_ID"
}}
trap save USR1

{run} &
step=$!
# A signal ends a wait before its time.
until wait "$step"; status=$?; ! kill -0 "$step" 2> /dev/null; do :; done
{after}exit "$status"
"""

AFTER = {
    True: """\
if [ -n "${saving:-}" ] && [ "$status" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
""",
    False: '',
}
"""What comes after the run, with --requeue and without; filled in, not formatted."""


def _sweep(setting: Setting, command: Argv) -> Argv:
    """`lm sweep` with the same things asked of Slurm in submitit's words.

    Raises:
      UserError: a setting that an array of runs of one process has not.
    """
    default = Setting()
    one_process = ('nodes', 'tasks_per_node', 'devices', 'logs', 'extra', 'requeue')
    for name in one_process:
        if getattr(setting, name) != getattr(default, name):
            raise UserError(
                f'--{name}: not of a sweep, each run of which is one process; give what submitit '
                'takes by --slurm of lm sweep'
            )
    own = [word for word in command if word.startswith(('--launcher', '--slurm'))]
    if own:
        raise UserError(f'sweep: {own[0]}: the launcher gives it; leave it out')
    _require(setting, setting.gpus_per_node or 1)
    parameters = {
        'slurm_job_name': setting.job_name,
        'gpus_per_node': setting.gpus_per_node or None,
        'cpus_per_task': setting.cpus_per_task,
        'slurm_time': setting.time or None,
        'slurm_partition': setting.partition or None,
        'slurm_account': setting.account or None,
        'slurm_signal_delay_s': setting.signal_seconds or None,
    }
    words = ','.join(f'{name}={value}' for name, value in parameters.items() if value is not None)
    return (*PROGRAM, *command, '--launcher=slurm', f'--slurm={words}')
