"""Slurm for real: Debian's slurm-wlm on this machine, one node with several tasks."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sweep import grid
from tests.training.runs import CONFIG, ROOT, last_step, read_rows, timeless, write_text

START = Path(__file__).with_name('start.sh')
NEEDED = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun')
MISSING = [name for name in NEEDED if shutil.which(name) is None]
STEPS = 60

pytestmark = [
    pytest.mark.slow,  # a cluster, and processes that compile
    pytest.mark.skipif(bool(MISSING), reason=f'no {", ".join(MISSING)}: apt install slurm-wlm'),
    pytest.mark.skipif(os.geteuid() != 0, reason='the daemons of Slurm are started as root'),
]


@pytest.fixture(scope='module')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp('slurm')
    subprocess.run([START, folder], check=True, timeout=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SLURM_CONF', str(folder / 'slurm.conf'))
        yield
        subprocess.run(['scancel', '--user=root'], check=True)
        subprocess.run([START, folder, 'stop'], check=True)


@pytest.fixture(scope='module')
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp('text') / 'words.txt')


def launch(*words: str) -> str:
    """What `lm launch` prints on stdout."""
    command = [sys.executable, '-m', 'launch', 'launch', *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def training(workdir: Path, text: Path) -> list[str]:
    return [
        '--', 'train', f'--config={CONFIG}:llama', f'--workdir={workdir}',
        f'--config.data.source={text}', f'--config.data.cache_dir={text.parent}/cache',
        '--config.mesh.devices=8', '--config.mesh.strategy=zero3', f'--config.train.steps={STEPS}',
        '--config.checkpoint.every_steps=1000', '--config.eval.every_steps=1000',
    ]  # fmt: skip


def wait_until(happened: Callable[[], bool], job: str, log: Path, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        now = state(job)
        assert now in ('PENDING', 'RUNNING', 'COMPLETING', 'COMPLETED'), (now, log.read_text())
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def state(job: str) -> str:
    words = ['squeue', '--noheader', f'--jobs={job}', '--states=all', '--format=%T']
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_requeued_by_a_signal_the_run_ends_bit_equal(
    cluster: None, text: Path, tmp_path: Path
) -> None:
    workdir, logs = tmp_path / 'requeued', tmp_path / 'my logs'
    flags = ['--tasks_per_node=2', '--devices=4', '--time=60', f'--logs={logs}']
    job = launch('slurm', *flags, *training(workdir, text)).split()[-1]
    log = logs / f'lm-{job}.log'
    wait_until(lambda: last_step(workdir) >= STEPS // 3, job, log)
    # What Slurm does by itself --signal_seconds before the time limit.
    subprocess.run(['scancel', '--signal=USR1', '--batch', job], check=True)
    wait_until(lambda: state(job) == 'PENDING', job, log)
    [saved] = [int(path.name) for path in (workdir / 'checkpoints').iterdir()]
    assert STEPS // 3 <= saved < STEPS
    assert f'lm: saved at step {saved}; the same command goes on' in log.read_text()
    assert not (workdir / 'summary.json').exists()
    # Slurm lets a requeued job wait for two minutes.
    subprocess.run(['scontrol', 'update', f'jobid={job}', 'StartTime=now'], check=True)
    wait_until(lambda: state(job) == 'COMPLETED', job, log)
    assert f'going on   from step {saved}' in log.read_text()

    straight = tmp_path / 'straight'
    launch('local', '--num_processes=2', '--devices=4', *training(straight, text))
    ends = [json.loads((one / 'summary.json').read_text()) for one in (workdir, straight)]
    assert ends[0]['params_sha256'] == ends[1]['params_sha256']
    metrics = [timeless(read_rows(one / 'metrics.jsonl')) for one in (workdir, straight)]
    assert metrics[0] == metrics[1] and len(metrics[0]) == STEPS


def test_a_sweep_is_an_array_of_jobs(cluster: None, text: Path, tmp_path: Path) -> None:
    flags = ['--time=60', '--cpus_per_task=1', '--job_name=grid']
    experiment = [f'--experiment={grid.__file__}', '--rates=1e-3,2e-3,3e-3,4e-3']
    folders = [f'--source={text}', f'--cache={text.parent}/cache', f'--workdir={tmp_path}/sweep']
    launch('slurm', *flags, '--', 'sweep', *experiment, *folders, '--at_once=2')
    rows = read_rows(tmp_path / 'sweep' / 'runs.jsonl')
    assert [row['error'] for row in rows] == [None] * 4
    assert len({row['loss'] for row in rows}) == 4
    [script] = (tmp_path / 'sweep' / 'slurm').glob('*_submission.sh')
    assert '#SBATCH --array=0-3%2' in script.read_text()
    assert '#SBATCH --job-name=grid' in script.read_text()
