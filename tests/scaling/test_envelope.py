"""The envelope of learning curves."""

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.envelope import fit_envelope, lower_hull
from lm.scaling.runs import Runs, read_runs
from tests.scaling.published import published
from tests.scaling.surfaces import TRUTH, best_size, grid


def curves(sizes: int = 400) -> Runs:
    """Learning curves of many sizes, each around the tokens that are best for it."""
    E, A, B, alpha, beta = TRUTH
    flops = np.geomspace(1e18, 1e22, sizes)
    params = np.repeat(best_size(TRUTH, flops), 21)
    tokens = (flops[:, None] / 6 * np.geomspace(0.5, 2, 21)).ravel() / params
    losses = E + A / params**alpha + B / tokens**beta
    return Runs(params, tokens, losses, run=tuple(f'{n:.4g}' for n in params))


def test_gemstones() -> None:
    fit = fit_envelope(read_runs(published('gemstones_hot_curves.csv')))
    assert fit.a == pytest.approx(0.499380, abs=1e-6)
    assert fit.b == pytest.approx(0.480989, abs=1e-6)
    constants = [fit.params_law.log_constant, fit.tokens_law.log_constant]
    assert constants == pytest.approx([-2.845108, 1.896321], abs=1e-6)
    assert fit.owners is not None and fit.owners[-1] == '1536x50' and len(fit.optima) == 21


def test_a_known_surface() -> None:
    fit = fit_envelope(curves())
    a = TRUTH.beta / (TRUTH.alpha + TRUTH.beta)
    # Not nearer: at both ends the hull follows one size's curve away from its best tokens.
    assert [fit.a, fit.b] == pytest.approx([a, 1 - a], abs=0.01)
    assert fit.params_law(1e20) == pytest.approx(float(best_size(TRUTH, np.array(1e20))), rel=0.03)


def test_the_hull_by_hand() -> None:
    x = np.array([3.0, 0.0, 1.0, 2.0, 1.0, 4.0, 3.0, 0.5])
    y = np.array([0.0, 4.0, 2.0, 1.5, 1.0, 0.5, 9.0, 2.5])
    # By x: (0, 4), then (0.5, 2.5) on the line to (1, 1), and on to the least; (4, 0.5) is worse.
    assert lower_hull(x, y).tolist() == [1, 4, 0]


def test_a_budget_whose_computes_differ_by_rounding_has_one_point_on_the_hull() -> None:
    runs = grid(TRUTH, 4)
    rounded = Runs(np.round(runs.params), np.round(runs.tokens), runs.losses, budget=runs.budget)
    assert len(np.unique(rounded.compute)) > 5
    assert len(fit_envelope(rounded).optima) == 5


def test_curves_that_have_no_envelope() -> None:
    three = np.array([1e8, 1e8, 1e8]), np.array([1e9, 2e9, 3e9])
    with pytest.raises(UserError, match='params: all points are of N = 1e\\+08; give learning'):
        fit_envelope(Runs(*three, np.array([3.0, 2.0, 1.0])))
    rising = Runs(np.array([1e8, 1e9]), np.array([1e9, 1e9]), np.array([2.0, 3.0]))
    with pytest.raises(UserError, match='loss: the least is at the least compute'):
        fit_envelope(rising)
