"""The loop: orders data, step and hooks, and waits for nothing that it does not need."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax

from lm.batch import Batch
from lm.errors import UserError
from lm.precision.loss_scale import SMALLEST
from lm.training.interrupt import Interrupt
from lm.training.profile import Profiler
from lm.training.program import Program
from lm.training.step import Metrics, Scaled, Spread, State, TakeStep


class Report(NamedTuple):
    """What is known of a step once it is done, all on the host.

    Attributes:
      step: steps taken, this one included.
      loss, grad_norm, learning_rate, targets, spread, scaled: as in `Metrics`; of a step that
        was skipped loss and gradient norm may be infinite or nan.
      batch: what the step read, of it the rows that this process holds.
      busy_seconds: time spent in the loop so far, without compilation, evaluation and saving.
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    targets: float
    batch: Batch
    busy_seconds: float
    spread: Spread | None = None
    scaled: Scaled | None = None


@dataclass(frozen=True)
class Boundary:
    """Something done between steps with the state at rest: evaluation, a checkpoint.

    Attributes:
      due: whether it is to be done after a step.
      act: called with the step and the state.
    """

    due: Callable[[int], bool]
    act: Callable[[int, State], None]


class NonFinite(UserError):
    """A loss or gradient that is not a number: nothing of this step or a later one is saved."""


def run_loop(
    program: Program,
    take_step: TakeStep,
    state: State,
    batches: Iterator[Batch],
    first_step: int,
    *,
    reporters: Sequence[Callable[[Report], None]],
    boundaries: Sequence[Boundary],
    interrupt: Interrupt,
    profiler: Profiler | None = None,
) -> tuple[int, State]:
    """Takes steps up to `train.steps`, or until a signal; returns the step and state reached.

    The metrics of step n are read while step n + 1 runs, so nothing waits for them; on a mesh of
    emulated devices each step is waited for. Before a boundary the step is read out, so a
    non-finite one never reaches a checkpoint.

    Args:
      program: its layout places batches, its config has the number of steps.
      take_step: the compiled step.
      state: to begin with; donated.
      batches: of the host, the rows that this process holds of them; the first one that of the
        step after `first_step`.
      first_step: steps taken before.
      reporters: called in turn with each step once it is done.
      boundaries: called in turn with the state at rest, where due.
      interrupt: asks for the end.
      profiler: traces some of the steps.

    Raises:
      NonFinite: names the step and the rows.
    """
    clock = _Clock()
    held = program.layout.held_rows(program.config.train.batch_size)
    pending: tuple[int, jax.Array, Batch] | None = None
    step = first_step

    def settle() -> None:
        nonlocal pending
        if pending is not None:
            report = _report(*pending, clock.seconds, program.config.train.batch_size)
            pending = None
            for reporter in reporters:
                reporter(report)

    while step < program.config.train.steps and not interrupt.stops(step):
        batch = next(batches)
        if profiler is not None:
            profiler.before(step + 1, state)
        state, metrics = take_step(state, program.place(batch, held))
        step += 1
        if profiler is not None:
            profiler.after(step, state)
        if program.layout.blocks_each_step:
            jax.block_until_ready(state)
        settle()
        pending = (step, metrics, batch)
        due = [boundary for boundary in boundaries if boundary.due(step)]
        if due:
            settle()
            with clock.paused():
                for boundary in due:
                    boundary.act(step, state)
    settle()
    return step, state


def _report(step: int, packed: jax.Array, batch: Batch, seconds: float, batch_size: int) -> Report:
    metrics = Metrics.unpacked(packed)
    loss, grad_norm, rate, targets, spread, scaled = metrics
    hopeless = scaled is not None and scaled.scale <= SMALLEST
    if not metrics.finite and (hopeless or not metrics.skipped):
        words = f'step {step}: loss {loss}, gradient norm {grad_norm}'
        if scaled is not None:
            words += f' at a loss scale of {scaled.scale:g}'
            if not scaled.dynamic:
                words += ' (precision.loss_scaling=dynamic would lower it)'
        raise NonFinite(f'{words}, on rows {rows_of(step, batch_size)}')
    return Report(step, loss, grad_norm, rate, targets, batch, seconds, spread, scaled)


def rows_of(step: int, batch_size: int) -> str:
    """The rows that a step reads, and how to see them."""
    last = step * batch_size - 1
    return f'{last + 1 - batch_size} to {last} (`lm data --step={step}` shows them)'


class _Clock:
    """Seconds since it was made, less its pauses."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._paused_at = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begin

    def paused(self) -> '_Clock':
        return self

    def __enter__(self) -> None:
        self._paused_at = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._begin += time.perf_counter() - self._paused_at
