"""How long a step takes on this machine, before the run that needs to know it."""

from dataclasses import replace

from lm import processes
from lm.config import Config
from lm.data.mixture import Mixture
from lm.data.pipeline import batches
from lm.training.evaluate import mixed_rows
from lm.training.interrupt import Interrupt
from lm.training.loop import run_loop
from lm.training.run_program import run_program

WARMING_STEPS = 2
TIMED_STEPS = 10


def step_seconds(config: Config, mixture: Mixture) -> float:
    """Seconds of a step, the making of its batch included; the same in every process.

    The loop itself takes the first steps of the run, from a state that is thrown away: what is
    timed is what the loop's clock will count. `train.steps` and the schedule are not looked at,
    since they depend on the answer.
    """
    # The report of a step comes while the next one runs, and that of the last one at once.
    steps = WARMING_STEPS + TIMED_STEPS + 1
    train = replace(config.train, steps=steps, hours=None)
    config = replace(config, train=train, optim=replace(config.optim, schedule='constant'))
    program = run_program(config, mixture)
    rows = mixed_rows(program.objective, mixture, train.seed)
    compiled = program.compiled_step(rows.row(0))
    read = batches(
        rows,
        program.objective.example,
        batch_size=train.batch_size,
        held=program.layout.held_rows(train.batch_size).numbers,
        start_row=0,
        seed=train.seed,
        overfit_batches=config.data.overfit_batches,
        threads=2,
    )
    seconds: list[float] = []
    run_loop(
        program, compiled, program.init_state(), read, 0,
        reporters=[lambda report: seconds.append(report.busy_seconds)],
        boundaries=[], interrupt=Interrupt(),
    )  # fmt: skip
    read.close()  # type: ignore[attr-defined]
    return processes.from_first(lambda: (seconds[-2] - seconds[WARMING_STEPS - 1]) / TIMED_STEPS)
