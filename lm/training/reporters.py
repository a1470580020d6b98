"""What is told of each step: a row in metrics.jsonl, a bar or a line on stderr.

Every process has all of them, and the first one writes and speaks.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from lm import processes
from lm.batch import Batch
from lm.data.mixed_rows import MixedRows
from lm.data.pipeline import row_number
from lm.mesh.held_rows import HeldRows
from lm.objectives._objective import Objective
from lm.training.loop import Report
from lm.training.noise_scale import NoiseScale
from lm.training.step import Scaled
from lm.training.workdir import Workdir, append_jsonl


@dataclass
class Pace:
    """Speed over the steps between two log rows.

    Attributes:
      tokens_per_step: raw tokens read a step.
      flops_per_step: model FLOPs of a step, by the run's rule.
      peak_flops: of all devices together, FLOP/s; None where it is unknown.
    """

    tokens_per_step: int
    flops_per_step: float
    peak_flops: float | None
    _last_step: int = 0
    _last_seconds: float = 0.0

    def start(self, step: int) -> None:
        """The next measurement begins at `step`, with the loop's clock at 0."""
        self._last_step, self._last_seconds = step, 0.0

    def measure(self, step: int, busy_seconds: float) -> tuple[float, float | None]:
        """Tokens per second and MFU since the last call."""
        seconds = max(busy_seconds - self._last_seconds, 1e-9)
        steps = step - self._last_step
        self._last_step, self._last_seconds = step, busy_seconds
        flops = steps * self.flops_per_step / seconds
        mfu = flops / self.peak_flops if self.peak_flops else None
        return steps * self.tokens_per_step / seconds, mfu


class MetricsLog:
    """Rows of metrics.jsonl, every `every` steps; hands each row on to `listeners`."""

    def __init__(
        self,
        workdir: Workdir,
        pace: Pace,
        every: int,
        last_step: int,
        counts: 'Counts',
        listeners: list[Callable[[dict[str, Any]], None]],
        noise: NoiseScale | None = None,
    ):
        self._workdir, self._pace, self._every, self._last = workdir, pace, every, last_step
        self._counts, self._noise, self._listeners = counts, noise, listeners
        self._unwritten: Report | None = None

    def __call__(self, report: Report) -> None:
        """Writes the row of a step that is due."""
        if report.step % self._every and report.step != self._last:
            self._unwritten = report
        else:
            self._unwritten = None
            self._write(report)

    def write_last(self) -> None:
        """Writes the row of the newest step, where a run ends before its last one."""
        if self._unwritten is not None:
            self._write(self._unwritten)

    def _write(self, report: Report) -> None:
        speed, mfu = self._pace.measure(report.step, report.busy_seconds)
        row = {
            'step': report.step,
            'tokens': report.step * self._pace.tokens_per_step,
            # Null of a step that was skipped for an overflow, where they are infinite or nan.
            'loss': _number(report.loss),
            'grad_norm': _number(report.grad_norm),
            'learning_rate': report.learning_rate,
            'tokens_per_second': speed,
            'mfu': mfu,
            'seconds': self._counts.seconds,
            **(self._noise.row() if self._noise else {}),
            **_scale_row(report.scaled),
        }
        append_jsonl(self._workdir.metrics_file, row)
        for listener in self._listeners:
            listener(row)


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _scale_row(scaled: Scaled | None) -> dict[str, float | int]:
    """The scale of the step's loss, and how many steps were skipped so far."""
    if scaled is None:
        return {}
    return {'loss_scale': scaled.scale, 'skipped_steps': int(scaled.skipped)}


class Progress:
    """A bar with ETA on a terminal; elsewhere a line at most every few seconds."""

    def __init__(self, first_step: int, last_step: int, line_seconds: float = 10.0):
        self._bar = None
        self._last_step, self._line_seconds, self._last_line = last_step, line_seconds, 0.0
        self._first, self._begin = first_step, time.perf_counter()
        if sys.stderr.isatty() and processes.is_first():
            from tqdm import tqdm

            self._bar = tqdm(
                total=last_step, initial=first_step, unit='step', file=sys.stderr, leave=True
            )

    def __call__(self, row: dict[str, Any]) -> None:
        """Shows the newest metrics."""
        loss = 'overflow, skipped' if row['loss'] is None else f'{row["loss"]:.4f}'
        words = f'loss {loss}  {row["tokens_per_second"]:,.0f} tokens/s'
        if row['mfu'] is not None:
            words += f'  MFU {row["mfu"]:.1%}'
        if self._bar is not None:
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.update(row['step'] - self._bar.n)
            return
        now = time.perf_counter()
        if now - self._last_line < self._line_seconds and row['step'] != self._last_step:
            return
        self._last_line = now
        done = max(row['step'] - self._first, 1)
        remaining = (now - self._begin) / done * (self._last_step - row['step'])
        processes.tell(f'step {row["step"]}/{self._last_step}  {words}  ETA {remaining:.0f} s')

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class Counts:
    """Adds up what each batch held, by source, and the seconds spent; goes with every checkpoint.

    A process counts the rows that it holds, and of those that several hold, the first of them.

    Attributes:
      first_row: the first row counted: 0, or where a run branched off to other text.
    """

    def __init__(
        self, objective: Objective, held: HeldRows, rows: MixedRows, overfit_batches: int = 0
    ):
        """
        Args:
          objective: knows which tokens of a batch it read.
          held: the rows of the batches that come.
          rows: know the source of each.
          overfit_batches: as in `batches`.
        """
        self.first_row = 0
        self._objective, self._held = objective, held
        self._rows, self._overfit_batches = rows, overfit_batches
        # used, targets, padded; a column for each source
        self._before_3S = np.zeros((len(_COUNTED), len(rows.sources)), np.int64)
        self._counted_3S = np.zeros_like(self._before_3S)
        self._seconds_before = self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Seconds in the loop, now and in earlier runs of the same command."""
        return self._seconds_before + self._seconds

    def __call__(self, report: Report) -> None:
        """Counts the batch of a step."""
        sources_B = self._sources(report.step)
        for source in np.unique(sources_B[self._held.first_here]):
            its_B = self._held.first_here & (sources_B == source)
            rows = report.batch
            if not its_B.all():
                rows = jax.tree.map(lambda x, its_B=its_B: x[its_B], rows)
            self._counted_3S[:, source] += self._count(rows)
        self._seconds = report.busy_seconds

    def _sources(self, step: int) -> np.ndarray:
        """int [rows held]: where each row of a step's batch comes from."""
        size = self._held.batch_size
        numbers_B = (step - 1) * size + np.asarray(self._held.numbers, np.int64)
        return self._rows.sources_of(row_number(numbers_B, size, self._overfit_batches))

    def _count(self, rows: Batch) -> tuple[int, int, int]:
        """What `_COUNTED` names, of some rows."""
        ids = (rows.segment_ids, rows.decoder_segment_ids)
        return (
            self._objective.tokens_used(rows),
            round(float(np.sum(np.asarray(rows.loss_weights), dtype=np.float64))),
            sum(int(np.count_nonzero(np.asarray(x) == 0)) for x in ids if x is not None),
        )

    def to_json(self) -> dict[str, Any]:
        """Of all processes: by source raw tokens `used`, `targets`, places `padded`; `seconds`."""
        everyones = processes.gathered(self._counted_3S.tolist())
        all_3S = self._before_3S + np.sum(everyones, axis=0)
        return {
            **dict(zip(_COUNTED, all_3S.tolist(), strict=True)),
            'first_row': self.first_row,
            'seconds': self.seconds,
        }

    def from_json(self, record: dict[str, Any]) -> None:
        """Goes on from the numbers of a checkpoint."""
        # Checkpoints of before there were mixtures hold a number each.
        self._before_3S = np.stack([np.atleast_1d(record[name]) for name in _COUNTED])
        self.first_row = int(record.get('first_row', 0))
        self._seconds_before = float(record['seconds'])


_COUNTED = ('used', 'targets', 'padded')
