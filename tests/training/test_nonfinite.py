"""A loss that is no number stops the run, and nothing of that step or a later one is saved."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lm
from lm import UserError
from lm.training import session
from lm.training.loop import Boundary
from lm.training.step import State
from tests.training.runs import Runs, read_rows, saved_steps


def poison_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a parameter nan in the state that step `step` begins with."""
    compiled = session.Session._compiled

    def poisoned(self: Any) -> tuple[float, Any]:
        seconds, take_step = compiled(self)

        def take(state: State, batch: Any) -> Any:
            if int(state.step) == step - 1:
                params = dict(state.params)
                name = sorted(params)[0]
                bad = params[name].at[(0,) * params[name].ndim].set(jnp.nan)
                params[name] = jax.device_put(bad, params[name].sharding)
                state = state._replace(params=params)
            return take_step(state, batch)

        return seconds, take

    monkeypatch.setattr(session.Session, '_compiled', poisoned)


@pytest.mark.parametrize(
    ('step', 'kept'),
    [
        (5, []),
        # A checkpoint is due at 8: after the very step that fails, after the one before it, whose
        # metrics were good but are read late, and after the one whose update failed.
        (8, []),
        (9, [8]),
        (16, [8]),
        (17, [8, 16]),
        (24, [8, 16]),  # the end
    ],
)
def test_stops_naming_step_and_rows(
    step: int, kept: list[int], runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_at(step, monkeypatch)
    workdir = tmp_path / 'run'
    with pytest.raises(UserError) as caught:
        runs.train('llama', workdir)
    message = str(caught.value)
    assert '\n' not in message
    rows = f'on rows {step * 8 - 8} to {step * 8 - 1} (`lm data --step={step}` shows them)'
    assert message.startswith(f'step {step}: loss nan, gradient norm nan, {rows}')
    assert saved_steps(workdir) == kept
    assert len(read_rows(workdir / 'metrics.jsonl')) == step - 1
    assert not (workdir / 'summary.json').exists()
    if kept:
        assert f'--fork_from={workdir}@{kept[-1]}' in message
        loaded = lm.load(workdir)
        assert all(np.isfinite(x).all() for x in loaded.params.values())
    else:
        assert 'no checkpoint was saved before' in message


def test_an_update_that_overflows_is_not_saved(runs: Runs, tmp_path: Path) -> None:
    # SGD without a bound: loss and gradient are finite, parameters after the update are not.
    workdir = tmp_path / 'run'
    with pytest.raises(UserError, match=r'step 1: its update made params/.* not finite, on rows 0'):
        runs.train(
            'llama', workdir, optim__name='sgd', optim__peak_lr=1e38, optim__clip_norm=1e10,
            optim__warmup_steps=0, optim__weight_decay=100.0, checkpoint__every_steps=1,
        )  # fmt: skip
    assert saved_steps(workdir) == []


def test_a_huge_learning_rate_ends_in_one_line(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'^step \d+: ') as caught:
        runs.train('llama', tmp_path / 'run', optim__peak_lr=1e30, optim__warmup_steps=0)
    assert '\n' not in str(caught.value)


def test_boundaries_see_a_step_only_after_its_metrics(runs: Runs, tmp_path: Path) -> None:
    seen: list[str] = []

    class Listening(session.Session):
        def _boundaries(self, board: Any) -> list[Boundary]:
            inner = super()._boundaries(board)
            log = Boundary(lambda step: True, lambda step, state: seen.append(f'at {step}'))
            return [log, *inner]

        def _save(self, step: int, state: State) -> None:
            assert int(state.step) == step
            assert len(read_rows(self.folder.metrics_file)) == step
            super()._save(step, state)

    from lm.training import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, 'Session', Listening)
        runs.train('llama', tmp_path / 'run')
    assert seen == [f'at {step}' for step in range(1, 25)]
