"""Fits without the largest computes, held against them."""

from dataclasses import replace

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.approaches import METHODS, Method
from lm.scaling.envelope import fit_envelope
from lm.scaling.hold_out import hold_out
from lm.scaling.isoflop import fit_isoflop
from lm.scaling.runs import read_runs
from tests.scaling.published import chinchilla, published
from tests.scaling.surfaces import TRUTH, grid


def test_the_240_points_beyond_1e21() -> None:
    found = hold_out('parametric', chinchilla(240), 1e21)
    assert found.loss_error == pytest.approx(0.0105, abs=5e-5)
    assert (found.fitted, found.left_out) == (217, 23) and found.params_error is None


def test_the_top_budgets_of_an_isoflop_grid() -> None:
    runs = read_runs(published('isoflop_chinchilla_epoch.csv'))
    assert runs.budget is not None
    found = hold_out('isoflop', runs)
    assert found.above == pytest.approx(1e21) and found.left_out == 8
    below, every = fit_isoflop(runs.where(runs.budget < 2e21)), fit_isoflop(runs)
    top = every.optima[-1]
    assert top.flops == 3e21
    assert found.params_errors == pytest.approx([below.params_law(3e21) / top.params - 1])
    assert found.loss_errors == pytest.approx([below.loss_law(3e21) / top.loss - 1])


def test_the_hull_beyond() -> None:
    runs = read_runs(published('gemstones_hot_curves.csv'))
    found = hold_out('envelope', runs, 5e20)
    beyond = [optimum for optimum in fit_envelope(runs).optima if optimum.flops > 5e20]
    below = fit_envelope(runs.where(runs.compute <= 5e20))
    errors = [below.params_law(optimum.flops) / optimum.params - 1 for optimum in beyond]
    assert found.params_errors == pytest.approx(errors) and len(errors) >= 2
    assert found.params_error == pytest.approx(np.abs(errors).mean())


@pytest.mark.parametrize(('method', 'error'), [('parametric', 1e-8), ('isoflop', 2e-4)])
def test_a_known_surface_is_foretold(method: Method, error: float) -> None:
    found = hold_out(method, grid(TRUTH, 4))
    assert found.left_out == 9 and found.loss_error is not None and found.loss_error < error


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('above', [1e17, 1e22])
def test_nothing_on_one_side(method: Method, above: float) -> None:
    with pytest.raises(UserError, match='the runs are of 1e\\+18 to 1e\\+22 FLOPs; give a compute'):
        hold_out(method, grid(TRUTH, 4), above)


def test_no_optimum_beyond() -> None:
    runs = grid(TRUTH, 4)
    assert runs.budget is not None
    falling = np.where(runs.budget == 1e22, 3 - np.arange(45) / 45, runs.losses)
    with pytest.raises(UserError, match='above=3.33333e\\+21: no optimum lies beyond'):
        hold_out('isoflop', replace(runs, losses=falling))
