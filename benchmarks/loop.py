"""What the training loop costs over the bare compiled step.

Command: python -m benchmarks.loop
Hardware: any; 2 CPU cores take about two minutes.
Expected: under 3 % at steps of about 20 ms with batches at hand (0.4 ms of this thread). Where the
step computes on all cores, the pipeline's threads add about 0.4 ms.

The same compiled step on the same batches, three ways in turn, many rounds: in a bare Python loop
over batches that lie on the device; in `run_loop` with batches in the host's memory; in `run_loop`
with the data pipeline and its threads. Both loops do what a run does: placement, metrics.jsonl,
TensorBoard, counts, progress. Each round compares neighbours in time, and the median over rounds
is told, so that a machine's other work matters little. On a CPU the pipeline's threads compute on
the cores that the step computes on; what they take is told apart.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

import lm
from lm.batch import Batch
from lm.data.mixture import Mixture, prepare_mixture
from lm.data.pipeline import batches
from lm.training.evaluate import mixed_rows
from lm.training.interrupt import Interrupt
from lm.training.loop import run_loop
from lm.training.program import Program, build_program, resolve_policy
from lm.training.reporters import Counts, MetricsLog, Pace, Progress
from lm.training.step import State
from lm.training.tensorboard import TensorBoard
from lm.training.workdir import Workdir

HELD = 16  # batches that lie ready


class Bench:
    """One program, its compiled step and state, and the ways to run it."""

    def __init__(self, program: Program, mixture: Mixture, folder: Path):
        self.program = program
        self.rows = mixed_rows(program.objective, mixture, 0)
        like = program.abstract_batch(self.rows.row(0))
        self.step = program.step.lower(program.abstract_state, like).compile()
        self.state: State = program.init_state()
        self.stream = self.pipeline()
        self.host = list(itertools.islice(self.stream, HELD))
        self.placed = [jax.device_put(program.layout.place(batch)) for batch in self.host]
        self.folder = Workdir(folder)
        self.board = TensorBoard(self.folder, 0)

    def pipeline(self) -> Iterator[Batch]:
        """Batches as a run gets them."""
        return batches(
            self.rows,
            self.program.objective.example,
            batch_size=self.program.config.train.batch_size,
            start_row=0,
            seed=0,
            threads=2,
        )

    def bare(self, steps: int) -> None:
        """The step and nothing else."""
        for i in range(steps):
            self.state, _ = self.step(self.state, self.placed[i % HELD])
            if self.program.layout.blocks_each_step:
                jax.block_until_ready(self.state)

    def loop(self, steps: int, source: Iterator[Batch]) -> None:
        """What a run does between two boundaries."""
        train = replace(self.program.config.train, steps=steps)
        program = replace(self.program, config=replace(self.program.config, train=train))
        counts = Counts(program.objective, program.layout.held_rows(train.batch_size), self.rows)
        pace = Pace(self.rows.stride * train.batch_size, 1.0, None)
        log = MetricsLog(
            self.folder, pace, train.log_every_steps, steps, counts,
            [Progress(0, steps, line_seconds=1e9), self.board],
        )  # fmt: skip
        with Interrupt() as interrupt:
            _, self.state = run_loop(
                program, self.step, self.state, source, 0,
                reporters=[counts, log], boundaries=[], interrupt=interrupt,
            )  # fmt: skip

    def seconds(self, work: Callable[[], None]) -> tuple[float, float]:
        """Wall seconds of some work, and CPU seconds of this thread."""
        jax.block_until_ready(self.state)
        wall, cpu = time.perf_counter(), time.thread_time()
        work()
        jax.block_until_ready(self.state)
        return time.perf_counter() - wall, time.thread_time() - cpu


def build(d_model: int, batch_size: int, folder: Path) -> Bench:
    """A LLaMA of two layers on the English of this Python, rows of 128."""
    sizes: dict[str, Any] = {
        'model.num_layers': 2, 'model.d_model': d_model, 'train.batch_size': batch_size,
        'mesh.devices': 1,
    }  # fmt: skip
    config = resolve_policy(lm.load_config('quickstart', **sizes))
    mixture = prepare_mixture(config.data, config.model.vocab_size)
    return Bench(build_program(config, mixture.tokenizer.vocabulary), mixture, folder)


def measure(bench: Bench, rounds: int, steps: int) -> dict[str, Any]:
    """Medians over rounds; `cost` is the share that a way takes more than the bare step."""
    ways: dict[str, Callable[[], None]] = {
        'bare step': lambda: bench.bare(steps),
        'loop, batches in memory': lambda: bench.loop(steps, itertools.cycle(bench.host)),
        'loop, data pipeline': lambda: bench.loop(steps, bench.stream),
    }
    for work in ways.values():
        work()
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            told[name].append(bench.seconds(work))
    base = [wall for wall, _ in told['bare step']]
    return {
        name: {
            'milliseconds': 1e3 * statistics.median(wall for wall, _ in times) / steps,
            'thread_cpu_milliseconds': 1e3 * statistics.median(cpu for _, cpu in times) / steps,
            'cost': statistics.median(w / b for (w, _), b in zip(times, base, strict=True)) - 1,
            'cost_of_best': min(w for w, _ in times) / min(base) - 1,
        }
        for name, times in told.items()
    }


def main() -> None:
    """Prints a table on stderr and one line of JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--d_model', type=int, default=160)
    parser.add_argument('--batch_size', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--steps', type=int, default=60, help='of each way in a round')
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = build(words.d_model, words.batch_size, Path(folder))
        result = measure(bench, words.rounds, words.steps)
    print(f'{"":<26}{"ms a step":>10}{"this thread":>13}{"cost":>8}{"of best":>9}', file=sys.stderr)
    for name, row in result.items():
        print(
            f'{name:<26}{row["milliseconds"]:>10.2f}{row["thread_cpu_milliseconds"]:>13.2f}'
            f'{row["cost"]:>8.1%}{row["cost_of_best"]:>9.1%}',
            file=sys.stderr,
        )
    print(json.dumps({'device': jax.devices()[0].device_kind, 'steps': words.steps, **result}))


if __name__ == '__main__':
    main()
