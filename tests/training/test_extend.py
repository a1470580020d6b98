"""A longer budget: plateaus go on, a schedule tied to its end asks first."""

import shutil
from pathlib import Path

import pytest

from lm import UserError, registry
from tests.training.runs import (
    Runs,
    last_step,
    read_rows,
    same_run,
    saved_steps,
    timeless,
    wait_for,
)

WSD = {
    'optim__schedule': 'wsd',
    'train__steps': 100,
    'checkpoint__every_steps': 30,
    'checkpoint__keep_latest': 1,
    'eval__every_steps': 50,
}


@pytest.fixture(scope='module')
def wsd(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A WSD run of 100 steps, and one of 200."""
    folder = tmp_path_factory.mktemp('wsd')
    runs.train('llama', folder / 'short', **WSD)
    runs.train('llama', folder / 'long', **{**WSD, 'train__steps': 200})
    return folder / 'short', folder / 'long'


def test_wsd_extended_equals_straight(
    wsd: tuple[Path, Path], runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = wsd
    # The plateau's end is kept beside the newest one; 30, 60 and 90 are gone.
    assert saved_steps(short) == [80, 100]
    assert saved_steps(long) == [160, 200]
    assert read_rows(short / 'metrics.jsonl')[-1]['learning_rate'] < 3e-3 / 5
    workdir = Path(shutil.copytree(short, tmp_path / 'run'))
    runs.train('llama', workdir, **{**WSD, 'train__steps': 200})
    said = capsys.readouterr().err
    assert 'going on   from step 80' in said
    assert 'changed    train.steps: 100 -> 200' in said
    same_run(workdir, long)
    assert saved_steps(workdir) == [160, 200]
    assert read_rows(workdir / 'history.jsonl')[-1]['changes'] == {'train.steps': [100, 200]}


@pytest.mark.parametrize('name', registry.names('optimizers'))
def test_every_optimizer_goes_on_from_its_saved_state(
    name: str, runs: Runs, tmp_path: Path
) -> None:
    settings = {'optim__name': name, 'optim__schedule': 'inverse_sqrt'}
    straight, parted = tmp_path / 'straight', tmp_path / 'parted'
    summary = runs.train('llama', straight, train__steps=8, **settings)
    runs.train('llama', parted, train__steps=4, **settings)
    extended = runs.train('llama', parted, train__steps=8, **settings)
    assert extended['params_sha256'] == summary['params_sha256']
    rows = [timeless(read_rows(workdir / 'metrics.jsonl')) for workdir in (straight, parted)]
    assert rows[0] == rows[1]


def test_wsd_extension_killed_and_resumed(
    wsd: tuple[Path, Path], runs: Runs, tmp_path: Path
) -> None:
    short, long = wsd
    workdir = Path(shutil.copytree(short, tmp_path / 'run'))
    longer = {**WSD, 'train__steps': 200}
    process = runs.start('llama', workdir, **longer)
    wait_for(process, lambda: 100 < last_step(workdir) < 180)
    process.kill()
    process.wait()
    assert not (workdir / 'summary.json').exists()  # the short run's would say that all is done
    runs.train('llama', workdir, **longer)
    same_run(workdir, long)


def test_extension_killed_before_its_first_step_is_not_taken_for_finished(
    wsd: tuple[Path, Path], runs: Runs, tmp_path: Path
) -> None:
    short, long = wsd
    workdir = Path(shutil.copytree(short, tmp_path / 'run'))
    config = (workdir / 'config.json').read_text()
    (workdir / 'config.json').write_text(config.replace('"steps": 100', '"steps": 200'))
    shutil.rmtree(workdir / 'checkpoints' / '100')
    summary = runs.train('llama', workdir, **{**WSD, 'train__steps': 200})
    assert summary['steps'] == 200
    same_run(workdir, long)


def test_wsd_extension_without_its_plateau_checkpoint(
    wsd: tuple[Path, Path], runs: Runs, tmp_path: Path
) -> None:
    workdir = Path(shutil.copytree(wsd[0], tmp_path / 'run'))
    shutil.rmtree(workdir / 'checkpoints' / '80')
    with pytest.raises(UserError, match=r'up to step 80, where the decay began.*\(100\)'):
        runs.train('llama', workdir, **{**WSD, 'train__steps': 200})
    assert saved_steps(workdir) == [100]


def test_constant_goes_on_from_the_last(
    copy: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.train('llama', copy, train__steps=40)
    assert 'going on   from step 24' in capsys.readouterr().err
    straight = tmp_path / 'straight'
    summary = runs.train('llama', straight, train__steps=40)
    assert read_rows(copy / 'metrics.jsonl')[-1]['loss'] == summary['final_loss']
    # The end of the shorter run was evaluated whole, which the straight one was not.
    extra = [row for row in read_rows(copy / 'eval.jsonl') if row['step'] == 24]
    assert [row['whole'] for row in extra] == [True]
    steps = [row['step'] for row in read_rows(copy / 'metrics.jsonl')]
    assert steps == list(range(1, 41))
    one, other = (w / 'summary.json' for w in (copy, straight))
    assert 'params_sha256' in one.read_text()
    assert runs.train('llama', copy, train__steps=40)['params_sha256'] == summary['params_sha256']
    assert other.exists()


def test_cosine_asks_before_it_is_stretched(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {'optim__schedule': 'cosine', 'train__steps': 12}
    workdir = tmp_path / 'run'
    runs.train('llama', workdir, **short)
    with pytest.raises(UserError, match=r'train.steps=20: the cosine schedule .*--restretch'):
        runs.train('llama', workdir, **{**short, 'train__steps': 20})
    assert saved_steps(workdir) == [8, 12]
    capsys.readouterr()
    summary = runs.train('llama', workdir, **{**short, 'train__steps': 20}, run_restretch=True)
    assert 'going on   from step 12' in capsys.readouterr().err
    assert summary['steps'] == 20
    rates = [row['learning_rate'] for row in read_rows(workdir / 'metrics.jsonl')]
    assert len(rates) == 20
    assert rates[12] > rates[11], 'the longer cosine stands higher at the same step'
