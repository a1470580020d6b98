"""SIGTERM and the first Ctrl-C save and end the run, the second Ctrl-C ends it at once."""

import signal
from pathlib import Path

import pytest

from tests.training.runs import Runs, last_step, same_run, saved_steps, wait_for

LONG = {'train__steps': 400, 'checkpoint__every_steps': 1000, 'eval__every_steps': 1000}


@pytest.fixture(scope='module')
def straight(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp('straight') / 'run'
    runs.train('llama', workdir, **LONG)
    return workdir


@pytest.mark.parametrize(
    ('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=['term', 'int']
)
def test_a_signal_saves_and_the_same_command_goes_on(
    number: signal.Signals, status: int, straight: Path, runs: Runs, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    process = runs.start('llama', workdir, **LONG)
    wait_for(process, lambda: last_step(workdir) >= 20)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status
    [step] = saved_steps(workdir)
    assert 20 <= step < 400
    assert last_step(workdir) == step
    assert f'lm: {number.name}: saving after this step' in said
    assert f'lm: saved at step {step}; the same command goes on' in said
    assert 'Traceback' not in said
    assert not (workdir / 'summary.json').exists()
    runs.train('llama', workdir, **LONG)
    same_run(workdir, straight)


def test_the_second_interrupt_quits_at_once(runs: Runs, tmp_path: Path) -> None:
    # In a step that lasts for ever, where nothing can be saved.
    workdir = tmp_path / 'run'
    script = (
        'import sys, time; from lm.training import session; from launch.main import main\n'
        'def stuck(program, step, state, *args, **words):\n'
        '    print("stuck", flush=True)\n'
        '    while True: time.sleep(0.01)\n'
        'session.run_loop = stuck\n'
        'sys.exit(main())'
    )
    import sys

    process = runs.start('llama', workdir, prefix=(sys.executable, '-c', script), **LONG)
    assert process.stdout is not None
    assert process.stdout.readline() == 'stuck\n'
    process.send_signal(signal.SIGINT)
    wait_for(process, lambda: True)
    assert process.stderr is not None
    while 'SIGINT: saving' not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert 'Traceback' not in said
    assert saved_steps(workdir) == []
