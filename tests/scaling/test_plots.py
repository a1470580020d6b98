"""What the panels show, read back from the axes."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lm.scaling.approaches import METHODS, fit_approach
from lm.scaling.envelope import fit_envelope
from lm.scaling.isoflop import fit_isoflop
from lm.scaling.parametric import fit_parametric
from lm.scaling.plots import envelope, isoflop_curves, plot, residuals, surface
from tests.scaling.surfaces import TRUTH, best_size, grid
from tests.scaling.test_envelope import curves


def test_the_minima_lie_on_the_curves() -> None:
    runs, axes = grid(TRUTH, 4), Figure().add_subplot()
    fit = fit_isoflop(runs)
    isoflop_curves(axes, runs, fit)
    stars = next(line for line in axes.lines if line.get_marker() == '*')
    np.testing.assert_allclose(stars.get_xdata(), [o.params for o in fit.optima])
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 100]
    lowest = [float(np.min(line.get_ydata())) for line in drawn]
    assert lowest == pytest.approx([o.loss for o in fit.optima], rel=1e-5)
    points = sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == '.')
    assert points == 45 and axes.get_xlabel() == 'parameters N'


def test_the_frontier_is_the_best_size() -> None:
    runs, axes = grid(TRUTH, 4), Figure().add_subplot()
    surface(axes, runs, fit_parametric(runs, starts=16))
    (line,) = axes.lines
    flops = np.asarray(line.get_xdata())
    np.testing.assert_allclose(line.get_ydata(), best_size(TRUTH, flops), rtol=1e-5)
    assert flops[-1] == pytest.approx(1e23)


def test_residuals_are_per_cent() -> None:
    runs, axes = grid(TRUTH, 4, noise=0.01), Figure().add_subplot()
    fit = fit_parametric(runs, starts=16)
    residuals(axes, runs, fit)
    x, y = np.asarray(axes.collections[0].get_offsets()).T
    np.testing.assert_allclose(x, runs.compute)
    np.testing.assert_allclose(y, 100 * (runs.losses / fit.loss(runs.params, runs.tokens) - 1))


def test_a_line_for_each_curve_and_the_hull() -> None:
    runs, axes = curves(6), Figure().add_subplot()
    fit = fit_envelope(runs)
    envelope(axes, runs, fit)
    assert [len(line.get_xdata()) for line in axes.lines] == [21] * 6 + [len(fit.optima)] * 2
    points = grid(TRUTH, 4)
    axes = Figure().add_subplot()
    envelope(axes, points, fit_envelope(points))
    assert {line.get_marker() for line in axes.lines[:45]} == {'.'}


def test_one_figure_of_what_there_is(tmp_path: Path) -> None:
    runs = grid(TRUTH, 4)
    fits = {method: fit_approach(method, runs, 0) for method in METHODS}
    plot(tmp_path / 'all.png', runs, fits)
    plot(tmp_path / 'one.png', runs, {'isoflop': fits['isoflop']})
    sizes = [
        np.frombuffer((tmp_path / name).read_bytes()[16:24], '>u4').tolist()
        for name in ('all.png', 'one.png')
    ]
    assert sizes == [[2 * 768, 2 * 576], [768, 576]]
    plot(tmp_path / 'again.png', runs, fits)
    assert (tmp_path / 'again.png').read_bytes() == (tmp_path / 'all.png').read_bytes()
