"""What is drawn of runs: the very numbers of their rows, thinned without losing a spike."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from lm.models.functional import functional
from lm.planning.flops import train_flops
from lm.precision.policy import POLICIES
from lm.report.figures import held_out, losses, running_mean, thinned
from lm.report.recorded import Recorded, read_runs
from tests.report.folders import TOKENS, write_run

LOSSES = [6.0, None, 5.0, 4.5]


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    [run] = read_runs(
        [str(write_run(tmp_path / 'a', losses=LOSSES, held_out=[(1, 6.5), (3, 5.5)]))]
    )
    return run


@pytest.mark.parametrize('axis', ['step', 'tokens', 'flops', 'seconds'])
def test_a_curve_is_its_rows(run: Recorded, axis: str) -> None:
    train, model = run.config.train, functional(run.config.model, POLICIES['fp32'])
    per_step = {
        'step': 1, 'tokens': TOKENS, 'seconds': 1.0,
        'flops': train_flops(model, train.seq_len).row * train.batch_size,
    }[axis]  # fmt: skip
    line, part, whole = _axes(losses([(0, run)], axis)).lines
    np.testing.assert_allclose(line.get_xdata(), per_step * np.arange(1, 5))
    # A step that was skipped has no loss: a gap, not a zero.
    np.testing.assert_array_equal(line.get_ydata(), [6.0, np.nan, 5.0, 4.5])
    for dots, step, loss in ((part, 1, 6.5), (whole, 3, 5.5)):
        np.testing.assert_allclose(dots.get_xydata(), [[per_step * step, loss]])


def test_what_is_not_told_is_not_drawn(tmp_path: Path) -> None:
    late = write_run(tmp_path / 'late', losses=[6.0, 5.0], held_out=[(4, 5.0)])
    bare, run = read_runs([str(write_run(tmp_path / 'bare')), str(late)])
    for axis in ('tokens', 'flops', 'seconds'):
        assert losses([(0, bare)], axis) is None
        assert held_out([(0, bare)], axis) is None
    # Its only score is of a step whose time metrics.jsonl does not tell yet.
    assert held_out([(0, run)], 'seconds') is None
    assert held_out([(0, run)], 'flops') is not None


def test_a_thinned_line_keeps_every_spike() -> None:
    values = np.random.default_rng(0).normal(size=10_007)
    values[[17, 5_000]] = 1e3, -1e3
    values[2_000:2_300] = np.nan
    kept = thinned(values, most=200)
    assert len(kept) <= 200
    assert np.all(np.diff(kept) > 0)
    assert {17, 5_000} <= {*kept}
    for stretch in np.array_split(np.arange(len(values)), 100):
        if np.isfinite(values[stretch]).any():
            drawn = values[np.intersect1d(kept, stretch)]
            assert np.nanmin(values[stretch]) == np.nanmin(drawn)
            assert np.nanmax(values[stretch]) == np.nanmax(drawn)
    assert np.isnan(values[kept]).any()
    np.testing.assert_array_equal(thinned(values[:200], most=200), np.arange(200))


def test_a_running_mean_is_that_of_its_window() -> None:
    values = np.random.default_rng(1).normal(size=60)
    values[20:28] = np.nan
    expected = [
        np.nan if np.isnan(around).all() else np.nanmean(around)
        for i in range(60)
        for around in [values[max(i - 2, 0) : i + 3]]
    ]
    np.testing.assert_allclose(running_mean(values, 4), expected, rtol=1e-12)


def _axes(figure: object) -> Axes:
    assert figure is not None
    return figure.axes[0]  # type: ignore[attr-defined, no-any-return]
