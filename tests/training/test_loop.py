"""The loop's order of things, and what a run leaves behind in its process when it fails."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lm import UserError
from lm.training import session
from lm.training.checkpoint import Checkpoints
from lm.training.interrupt import Interrupt
from lm.training.loop import Boundary, NonFinite, Report, run_loop
from lm.training.step import State
from tests.training.numerics import SGD, batches, initial, program
from tests.training.runs import Runs, read_rows


def fail_at(step: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the run with an error in the middle of the loop."""
    compiled = session.Session._compiled

    def failing(self: Any) -> tuple[float, Any]:
        seconds, take_step = compiled(self)

        def take(state: State, batch: Any) -> Any:
            if int(state.step) == step - 1:
                raise error
            return take_step(state, batch)

        return seconds, take

    monkeypatch.setattr(session.Session, '_compiled', failing)


def test_a_run_that_fails_leaves_no_thread(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.train('llama', tmp_path / 'warm', train__steps=2)  # pools that live as long as Python
    before = set(threading.enumerate())
    fail_at(5, RuntimeError('in the loop'), monkeypatch)
    with pytest.raises(RuntimeError, match='in the loop') as caught:
        runs.train('llama', tmp_path / 'run')
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, 'although the traceback still holds the frames'
    assert caught.value is not None
    assert len(read_rows(tmp_path / 'run' / 'metrics.jsonl')) == 3, 'step 4 was never read'


def test_the_first_error_is_the_one_told(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Checkpoints.close

    def unwritable(self: Checkpoints) -> None:
        close(self)
        raise UserError('the disk is full')

    monkeypatch.setattr(Checkpoints, 'close', unwritable)
    with pytest.raises(UserError, match='the disk is full'):
        runs.train('llama', tmp_path / 'good', train__steps=2)
    fail_at(5, UserError('the first'), monkeypatch)
    with pytest.raises(UserError, match='the first'):
        runs.train('llama', tmp_path / 'run')


def test_who_quits_does_not_wait_for_a_checkpoint(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    close = Checkpoints.close
    monkeypatch.setattr(Checkpoints, 'close', lambda self: closed.append(True))
    fail_at(5, KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        runs.train('llama', tmp_path / 'run')
    assert closed == []
    monkeypatch.setattr(Checkpoints, 'close', close)


def test_reports_come_in_order_one_step_late_and_before_boundaries() -> None:
    made = program('gpt2', 1, **{**SGD, 'train.steps': 6})
    told: list[str] = []

    def take(state: State, batch: Any) -> Any:
        told.append(f'take {int(state.step) + 1}')
        return made.step(state, batch)

    def report(report: Report) -> None:
        told.append(f'told {report.step}')

    boundary = Boundary(lambda step: step == 3, lambda step, state: told.append(f'at {step}'))
    step, state = run_loop(
        made, take, initial('gpt2', 'sgd'), iter(batches(made, 6)), 0,
        reporters=[report], boundaries=[boundary], interrupt=Interrupt(),
    )  # fmt: skip
    assert (step, int(state.step)) == (6, 6)
    assert told == [
        'take 1', 'take 2', 'told 1', 'take 3', 'told 2', 'told 3', 'at 3',
        'take 4', 'take 5', 'told 4', 'take 6', 'told 5', 'told 6',
    ]  # fmt: skip


def test_time_at_boundaries_is_no_time_of_steps() -> None:
    made = program('gpt2', 1, **{**SGD, 'train.steps': 4})
    seconds: list[float] = []
    boundary = Boundary(lambda step: step == 2, lambda step, state: time.sleep(0.5))
    take = made.step.lower(made.abstract_state, batches(made, 1)[0]).compile()
    begin = time.perf_counter()
    run_loop(
        made, take, initial('gpt2', 'sgd'), iter(batches(made, 4)), 0,
        reporters=[lambda report: seconds.append(report.busy_seconds)],
        boundaries=[boundary], interrupt=Interrupt(),
    )  # fmt: skip
    assert seconds == sorted(seconds)
    assert seconds[-1] <= time.perf_counter() - begin - 0.5


def test_a_nonfinite_step_is_a_users_error() -> None:
    assert issubclass(NonFinite, UserError)
