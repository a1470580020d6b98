"""What the folder of a run tells of it, whether it has ended or not. Imports no jax."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lm.config import Config
from lm.errors import UserError
from lm.planning.counts import ParameterCount, count_parameters
from lm.planning.flops import FlopCount, train_flops
from lm.planning.parameters import model_shape
from lm.planning.rows import side_lengths
from lm.training.workdir import Workdir, read_jsonl

Series = Float[np.ndarray, ' R']
"""A number for each row, float64; nan where the row has none."""


@dataclass(frozen=True)
class Rows:
    """The rows of a JSONL file, column by column.

    Attributes:
      steps: of each row, increasing.
      columns: every other number that a row has, by name.
    """

    steps: Int[np.ndarray, ' R']
    columns: Mapping[str, Series]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> Series:
        """A column; all nan where no row has it."""
        return self.columns.get(name, np.full(len(self), np.nan))

    def has(self, name: str) -> bool:
        """Whether any row has a number of this name."""
        return bool(np.isfinite(self[name]).any())

    def last(self, name: str) -> float | None:
        """The newest number of a column; None where there is none."""
        known = self[name][np.isfinite(self[name])]
        return float(known[-1]) if len(known) else None


@dataclass(frozen=True)
class Recorded:
    """A run as its folder tells of it.

    Attributes:
      label: how it is called beside other runs.
      folder: where it is.
      config: what it is a run of.
      metrics: rows of metrics.jsonl.
      held_out: rows of eval.jsonl; `whole` is 1 where the whole held-out text was scored.
      summary: summary.json; None while the run has not ended.
    """

    label: str
    folder: Workdir
    config: Config
    metrics: Rows
    held_out: Rows
    summary: Mapping[str, Any] | None

    @property
    def step(self) -> int:
        """The last step that is told of; 0 where none is."""
        return int(self.metrics.steps[-1]) if len(self.metrics) else 0

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of history.jsonl; see `Workdir.add_history`."""
        return self.folder.read_history()

    @cached_property
    def converted_from(self) -> str | None:
        """What a converted model was made of; None of a run."""
        if not self.folder.conversion_file.exists():
            return None
        try:
            tree = json.loads(self.folder.conversion_file.read_text(encoding='utf-8'))
            return str(tree['from'])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f'{self.folder.conversion_file}: cannot be read ({error})') from error

    @cached_property
    def counted(self) -> tuple[ParameterCount, FlopCount] | None:
        """Parameters, and FLOPs of a row, in closed form; None of a model that is in none."""
        config = self.config
        try:
            model = model_shape(config.model)
            return count_parameters(model), train_flops(model, *_lengths(config, model.family))
        except UserError:
            return None

    @property
    def flops_per_step(self) -> float | None:
        """By the rule of summary.json; None where it cannot be known."""
        if self.summary is not None and self.summary.get('flops') and self.summary.get('steps'):
            return float(self.summary['flops']) / int(self.summary['steps'])
        if self.counted is None:
            return None
        return float(self.counted[1].row) * self.config.train.batch_size

    def along(self, axis: str, rows: Rows) -> Series:
        """Where rows of this run lie on an axis: `step`, `tokens`, `flops` or `seconds`.

        Tokens and FLOPs go with the steps. What metrics.jsonl does not tell of a step that
        eval.jsonl has, is between the two rows around it, and nan after the last.
        """
        steps = rows.steps.astype(np.float64)
        if axis == 'step':
            return steps
        if axis == 'flops':
            return steps * (np.nan if self.flops_per_step is None else self.flops_per_step)
        if rows is self.metrics:
            return rows[axis]
        if not len(self.metrics):
            return np.full(len(rows), np.nan)
        told = self.metrics.steps.astype(np.float64), self.metrics[axis]
        return np.interp(steps, *told, left=np.nan, right=np.nan)


def read_runs(paths: Sequence[str]) -> list[Recorded]:
    """The runs in these folders, each by the name of its folder, or by its path where two share it.

    Raises:
      UserError: a folder that holds no run or is given twice, or a file in it that is damaged.
    """
    folders = [Workdir(path, 'WORKDIR') for path in paths]
    places = [folder.place for folder in folders]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f'WORKDIR {path}: is given twice; give each run once')
    names = [folder.label for folder in folders]
    return [
        _read(folder, name if names.count(name) == 1 else str(path))
        for folder, name, path in zip(folders, names, paths, strict=True)
    ]


def _read(folder: Workdir, label: str) -> Recorded:
    if not folder.path.exists():
        raise UserError(f'WORKDIR {folder.name}: does not exist')
    config = folder.read_config()
    if config is None:
        inside = f'; give those inside it: {folder.name}/runs/*' if _is_sweep(folder.path) else ''
        raise UserError(f'WORKDIR {folder.name}: holds no run (no config.json){inside}')
    metrics, held_out = read_rows(folder.metrics_file), read_rows(folder.eval_file)
    return Recorded(label, folder, config, metrics, held_out, folder.read_summary())


def _is_sweep(path: Path) -> bool:
    return (path / 'runs.jsonl').is_file()


def read_rows(path: Path) -> Rows:
    """The rows of a JSONL file; none where there is no file.

    Raises:
      UserError: a line that is not JSON, or is no row of a step after the row before it.
    """
    rows = read_jsonl(path)
    before = -1
    for number, row in enumerate(rows, 1):
        step = row.get('step')
        if not isinstance(step, int) or step < before:
            raise UserError(
                f'{path}: line {number} is no row of a step after {max(before, 0)}; mend or '
                'remove it'
            )
        before = step
    names = dict.fromkeys(name for row in rows for name in row if name != 'step')
    columns = {name: _column(path, rows, name) for name in names}
    steps = np.array([row['step'] for row in rows], np.int64)
    return Rows(steps, {name: column for name, column in columns.items() if column is not None})


def _column(path: Path, rows: Sequence[Mapping[str, Any]], name: str) -> Series | None:
    """The numbers of a name; None where it names something else."""
    values = [row.get(name) for row in rows]
    if not any(isinstance(value, int | float) for value in values):
        return None
    for number, value in enumerate(values, 1):
        if not isinstance(value, int | float | None):
            raise UserError(f'{path}: line {number}: {name}={value!r} is no number; mend it')
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _lengths(config: Config, family: str) -> tuple[int, ...]:
    return tuple(side_lengths(config, family).values())
