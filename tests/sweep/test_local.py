"""Runs as processes of this machine: shares, failures, and death at any moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm.errors import UserError
from lm.sweep import Sweep, local
from lm.sweep.job import Job
from lm.sweep.local import gpus_here, places, run_here
from tests.sweep import grid
from tests.sweep.grid import Setting, configs
from tests.training.runs import ROOT, last_step, read_rows


def test_the_machine_is_shared_out() -> None:
    assert [place.cores for place in places(2, [0, 1, 2, 3, 4], [])] == [(0, 2, 4), (1, 3)]
    assert [place.gpus for place in places(2, [0, 1], ['3', '5', '7'])] == [('3', '7'), ('5',)]
    assert places(1, [4], [])[0].gpus is None
    with pytest.raises(UserError, match='at_once=3: between 1 and the 2 cores there are'):
        places(3, [0, 1], [])
    with pytest.raises(UserError, match='at_once=2: between 1 and the 1 GPUs there are'):
        places(2, [0, 1], ['0'])
    with pytest.raises(UserError, match='at_once=0'):
        places(0, [0, 1], [])


def test_gpus_are_those_that_the_environment_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2, GPU-ab')
    assert gpus_here() == ['2', 'GPU-ab']
    for none in ('', '-1', '-1,0'):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', none)
        assert gpus_here() == []
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1')
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    assert gpus_here() == []


def test_a_process_that_dies_is_a_row(
    study: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, {'a': configs(study)['rate 0.001']})
    [job] = sweep.pending()
    sweep.begin([job])
    die = 'import os; print("out of memory", flush=True); os.kill(os.getpid(), 9)'
    monkeypatch.setattr(local, 'COMMAND', (sys.executable, '-c', die))
    heard: list[Any] = []
    run_here([job], 1, lambda *told: heard.append(told))
    [(same, row)] = heard
    assert same == job and row['error'] == 'killed by signal 9: out of memory'
    assert sweep.gather() == [row] and sweep.pending() == []


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_a_signal_ended_before_it_trained_is_no_failure(
    signum: int, study: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, {'a': configs(study)['rate 0.001']})
    die = (
        'import os, signal; n = int({}); signal.signal(n, signal.SIG_DFL); os.kill(os.getpid(), n)'
    )
    command = (sys.executable, '-c', die.format(int(signum)))
    monkeypatch.setattr(local, 'COMMAND', command)
    rows = sweep.make(lambda jobs, ended: run_here(jobs, 1, ended))
    assert rows == [] and len(sweep.pending()) == 1
    monkeypatch.setattr(local, 'COMMAND', (sys.executable, '-c', 'raise SystemExit(3)'))
    [row] = sweep.make(lambda jobs, ended: run_here(jobs, 1, ended))
    assert row['error'].startswith('ended with status 3') and sweep.pending() == []
    # A failure is tried again only where that is asked for.
    made: list[str] = []

    def launch(jobs: list[Job], ended: Any) -> None:
        made.extend(job.name for job in jobs)

    assert sweep.make(launch) == [row] and made == []
    assert sweep.make(launch, retry_failed=True) == [] and made == ['a']


def waited(happened: Callable[[], bool], process: 'subprocess.Popen[bytes] | None' = None) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, 'nothing happened'
        assert process is None or process.poll() is None, 'the sweep ended early'
        time.sleep(0.01)


def test_a_sweep_killed_goes_on_where_its_runs_were(study: Setting, tmp_path: Path) -> None:
    folder = tmp_path / 'sweep'
    words = [
        f'--experiment={grid.__file__}', f'--workdir={folder}', f'--source={study.source}',
        f'--cache={study.cache}', '--rates=1e-3', '--steps=2000',
    ]  # fmt: skip
    command = [sys.executable, '-m', 'launch', 'sweep', *words]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    runs = folder / 'runs'
    waited(lambda: runs.is_dir() and any(last_step(one) >= 15 for one in runs.iterdir()), process)
    [run] = runs.iterdir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The run hears that its sweep is gone, saves its state and ends.
    lock = run / 'lock'

    def let_go() -> bool:
        return subprocess.run(['flock', '-n', str(lock), 'true'], check=False).returncode == 0

    waited(let_go)
    reached = last_step(run)
    assert 15 <= reached < 2000 and not (run / 'row.json').exists()
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    waited(lambda: last_step(run) > reached, process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    waited(let_go)
    assert os.path.exists(run / 'checkpoints')
    # It went on: no step is there twice, none was taken again from the beginning.
    steps = [row['step'] for row in read_rows(run / 'metrics.jsonl')]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > reached
    log = (run / 'log.txt').read_text()
    assert log.count('step 1/2000') == 1
