"""A run that ends by a budget: the same run as with those steps, and its end is the budget's."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import pytest

from lm import UserError
from lm.training import loop
from lm.training.lowering import lower_step
from tests.training.runs import (
    Runs,
    last_step,
    read_rows,
    same_run,
    saved_steps,
    snapshot,
    wait_for,
)

A_STEP = 8 * 32  # rows x tokens of the tiny config
COSINE = {'optim__schedule': 'cosine'}


def config_of(workdir: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((workdir / 'config.json').read_text())
    return config


def test_a_budget_of_tokens_is_a_run_of_those_steps(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = runs.train('llama', tmp_path / 'plain', train__steps=12, **COSINE)
    capsys.readouterr()
    tokens = 12 * A_STEP + 100
    by_tokens = runs.train('llama', tmp_path / 'tokens', train__tokens=tokens, **COSINE)
    assert f'steps      12: train.tokens={tokens}\n' in capsys.readouterr().err
    assert plain['params_sha256'] == by_tokens['params_sha256']
    same_run(tmp_path / 'plain', tmp_path / 'tokens')
    assert by_tokens['tokens'] <= tokens < by_tokens['tokens'] + A_STEP
    train = config_of(tmp_path / 'tokens')['train']
    assert (train['steps'], train['tokens'], train['flops']) == (12, tokens, None)

    # The same command again, the other budgets that come to as much, and the steps themselves.
    before = snapshot(tmp_path / 'tokens')
    for same in (
        {'train__tokens': tokens},
        {'train__flops': by_tokens['flops'] * 1.01},
        {'train__tokens_per_param': (12.5 * A_STEP) / by_tokens['params']},
        {'train__steps': 12},
    ):
        assert runs.train('llama', tmp_path / 'tokens', **same, **COSINE) == by_tokens
        assert 'is finished: nothing to do' in capsys.readouterr().err
    assert snapshot(tmp_path / 'tokens') == before

    # FLOPs of the summary's own rule, exactly: not one step less or more.
    for flops, steps in ((by_tokens['flops'], 12), (by_tokens['flops'] * 0.999, 11)):
        folder = tmp_path / f'flops{steps}'
        assert runs.train('llama', folder, train__flops=flops, **COSINE)['steps'] == steps


def test_killed_and_resumed(runs: Runs, tmp_path: Path) -> None:
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    runs.train('llama', straight, train__steps=200)
    process = runs.start('llama', killed, train__tokens=f'{200 * A_STEP / 1e3}e3')
    wait_for(process, lambda: 20 < last_step(killed) < 190)
    process.kill()
    process.wait()
    # Without --config the run's own: the budget is the recorded one.
    runs.train('llama', killed, train__tokens=200 * A_STEP)
    same_run(straight, killed)


def test_a_larger_budget_of_another_kind_extends(
    finished: Path, copy: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.train('llama', copy, train__tokens=30 * A_STEP)
    said = capsys.readouterr().err
    assert 'going on   from step 24' in said
    assert 'changed    train.steps: 24 -> 30' in said
    summary = runs.train('llama', copy, train__flops=flops_of(copy) * 40 / 30 * 1.001)
    straight = runs.train('llama', tmp_path / 'straight', train__steps=40)
    assert summary['steps'] == 40
    assert summary['params_sha256'] == straight['params_sha256']
    changes = read_rows(copy / 'history.jsonl')[-1]['changes']
    assert changes['train.tokens'] == [30 * A_STEP, None]
    assert changes['train.steps'] == [30, 40]
    with pytest.raises(UserError, match=r'steps=39 \(train.tokens=9999\): .*planned for 40'):
        runs.train('llama', copy, train__tokens=9999)


def flops_of(workdir: Path) -> float:
    flops: float = json.loads((workdir / 'summary.json').read_text())['flops']
    return flops


def test_a_schedule_that_is_tied_to_its_end_asks(runs: Runs, tmp_path: Path) -> None:
    runs.train('llama', tmp_path, train__tokens=10 * A_STEP, **COSINE)
    with pytest.raises(UserError, match=r'steps=12 \(train.tokens=3072\): the cosine.*--restretch'):
        runs.train('llama', tmp_path, train__tokens=12 * A_STEP, **COSINE)
    longer = runs.train('llama', tmp_path, train__tokens=12 * A_STEP, run_restretch=True, **COSINE)
    assert longer['steps'] == 12


def test_a_plan_compiles_the_step_of_the_budgets_schedule(runs: Runs) -> None:
    # A warm-up that is longer than the steps that are there without a budget.
    config = runs.config(
        'llama', model__vocab_size=100, train__tokens=90 * A_STEP, optim__warmup_steps=50, **COSINE
    )
    assert config.train.steps < 50
    assert lower_step(config, jax.devices()[:1]).as_text()


class FakeClock:
    """The loop's clock: each time it is read, a step has taken `seconds`."""

    step_seconds = 1.0

    def __init__(self) -> None:
        self._now = 0.0

    @property
    def seconds(self) -> float:
        self._now += FakeClock.step_seconds
        return self._now

    def paused(self) -> 'FakeClock':
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[FakeClock]:
    monkeypatch.setattr(loop, '_Clock', FakeClock)
    monkeypatch.setattr(FakeClock, 'step_seconds', 1.0)
    return FakeClock


def test_hours_become_steps_and_the_run_is_one_of_those_steps(
    clock: type[FakeClock],
    finished: Path,
    runs: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = runs.train('llama', tmp_path, train__hours=24.5 / 3600)
    assert 'steps      24: train.hours=0.0068' in capsys.readouterr().err
    assert (summary['steps'], summary['stopped_by']) == (24, 'steps')
    same_run(tmp_path, finished)
    train = config_of(tmp_path)['train']
    assert (train['steps'], train['hours']) == (24, 24.5 / 3600)
    # What the hours came to is kept, whatever a clock says today.
    clock.step_seconds = 0.5
    assert runs.train('llama', tmp_path, train__hours=24.5 / 3600) == summary
    assert 'is finished' in capsys.readouterr().err
    with pytest.raises(UserError, match=r'train.hours=0.001: .*a smaller budget needs'):
        runs.train('llama', tmp_path, train__hours=0.001)


def test_when_time_is_over_the_run_ends(
    clock: type[FakeClock],
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hours = {'train__hours': 30.5 / 3600, 'train__log_every_steps': 4, 'optim__schedule': 'wsd'}
    from lm.training import run

    timed = run.step_seconds

    def then_slower(*args: Any) -> float:
        found = timed(*args)
        clock.step_seconds = 2.0
        return found

    monkeypatch.setattr(run, 'step_seconds', then_slower)
    summary = runs.train('llama', tmp_path / 'run', **hours)
    # The time of 15 steps is over once the 15th is read, while the next one runs.
    assert (summary['steps'], summary['steps_planned']) == (16, 30)
    assert summary['stopped_by'] == 'hours'
    said = capsys.readouterr().err
    assert 'lm: train.hours=0.008472222222222223: over after step 16 of 30' in said
    workdir = tmp_path / 'run'
    rows = read_rows(workdir / 'metrics.jsonl')
    assert [row['step'] for row in rows] == [4, 8, 12, 16]
    assert summary['tokens'] == 16 * A_STEP
    assert saved_steps(workdir)[-1] == 16
    assert read_rows(workdir / 'eval.jsonl')[-1]['whole']
    before = snapshot(workdir)
    assert runs.train('llama', workdir, **hours) == summary
    assert 'is finished' in capsys.readouterr().err
    assert snapshot(workdir) == before

    # Killed before its summary, it is over as soon as a step tells of the time.
    killed = Path(shutil.copytree(workdir, tmp_path / 'killed'))
    (killed / 'summary.json').unlink()
    again = runs.train('llama', killed, **hours)
    assert (again['steps'], again['stopped_by']) == (18, 'hours')
    assert read_rows(killed / 'metrics.jsonl')[-1]['step'] == 18

    # More hours at the pace of the record: two seconds a step, but for the timing of the first.
    more = runs.train('llama', workdir, **{**hours, 'train__hours': 80.5 / 3600})
    assert 'going on   from step 16' in capsys.readouterr().err
    assert (more['steps'], more['stopped_by']) == (40, 'steps')
    # And the steps themselves take the place of hours.
    longer = runs.train('llama', killed, train__steps=30, **{**hours, 'train__hours': None})
    assert (longer['steps'], longer['stopped_by']) == (30, 'steps')


def test_what_time_is_over_is_heard_of_in_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm.training import interrupt

    told: list[Any] = []

    class Notice:
        def give(self, value: Any) -> None:
            told[:] = told or [value]

        def read(self) -> Any:
            return told[0] if told else None

    monkeypatch.setattr(interrupt.processes, 'count', lambda: 2)
    monkeypatch.setattr(interrupt.processes, 'Notice', Notice)
    first, second = interrupt.Interrupt(), interrupt.Interrupt()
    first.time_is_over()
    assert not second.stops(7)
    assert not first.stops(7)
    assert not second.stops(8)
    assert [one.stops(9) for one in (first, second)] == [True, True]
    assert first.stopped_by == second.stopped_by == 'hours'
