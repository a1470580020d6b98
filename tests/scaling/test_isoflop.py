"""The iso-FLOP fit: published figures, the parabola's bias, and budgets that are dropped."""

from dataclasses import replace

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.isoflop import IsoflopFit, fit_isoflop, slices_of
from lm.scaling.parametric import Constants
from lm.scaling.runs import Runs, read_runs
from tests.scaling.published import published
from tests.scaling.surfaces import TRUTH, best_size, grid

PAPER = Constants(1.69, 406.4, 410.7, 0.34, 0.28)


def worst(fit: IsoflopFit, truth: Constants) -> float:
    """The optimum that is furthest from the closed form, relatively."""
    flops = np.array([optimum.flops for optimum in fit.optima])
    params = np.array([optimum.params for optimum in fit.optima])
    return float(np.abs(params / best_size(truth, flops) - 1).max())


def test_chinchilla() -> None:
    fit = fit_isoflop(read_runs(published('isoflop_chinchilla_epoch.csv')))
    assert fit.a == pytest.approx(0.492, abs=5e-4) and fit.a + fit.b == pytest.approx(1, abs=1e-6)
    assert fit.params_law(5.76e23) == pytest.approx(62.4e9, rel=1e-3)
    assert len(fit.optima) == 8
    assert [drop.flops for drop in fit.dropped] == [1e20]
    assert fit.dropped[0].reason == (
        'minimum at N = 5.01e+08, below its sizes of 6.32e+08 to 2.98e+09'
    )
    # Rules for the window move the exponent; all that found optima are told.
    others = {name: other.a for name, other in fit.alternatives.items()}
    assert set(others) == {'exponentials', 'cubic', 'within_2x', 'within_4x', 'within_8x'}
    assert others['exponentials'] == pytest.approx(0.492, abs=1e-3)
    assert others['within_2x'] == pytest.approx(0.527, abs=1e-3)


def test_marin() -> None:
    fit = fit_isoflop(read_runs(published('isoflop_marin_comma.csv')))
    assert fit.a == pytest.approx(0.405, abs=5e-4) and not fit.dropped
    # Without the parabola's bias it agrees with the parametric fit's .329.
    assert fit.alternatives['exponentials'].a == pytest.approx(0.327, abs=1e-3)


@pytest.mark.parametrize(('half_window', 'bias'), [(2, 0.0035), (4, 0.0143), (15.4, 0.0566)])
def test_the_parabolas_bias_and_the_vertex_without_it(half_window: float, bias: float) -> None:
    fit = fit_isoflop(grid(PAPER, half_window))
    assert fit.optima[0].params > best_size(PAPER, np.array(1e18))
    assert worst(fit, PAPER) == pytest.approx(bias, rel=0.02)
    unbiased = fit.alternatives['exponentials']
    assert len(unbiased.optima) == 5 and worst(unbiased, PAPER) < 1e-9 < bias / 10
    assert worst(fit.alternatives['cubic'], PAPER) < bias / 10
    assert unbiased.a == pytest.approx(0.28 / 0.62, rel=1e-10)


def test_the_loss_and_tokens_at_an_optimum() -> None:
    optimum = fit_isoflop(grid(TRUTH, 4)).alternatives['exponentials'].optima[2]
    E, A, B, alpha, beta = TRUTH
    assert optimum.flops == 1e20
    assert 6 * optimum.params * optimum.tokens == pytest.approx(1e20, rel=1e-12)
    loss = E + A / optimum.params**alpha + B / optimum.tokens**beta
    assert optimum.loss == pytest.approx(loss, rel=1e-12)


def test_with_noise_the_exponentials_stay_near() -> None:
    fit = fit_isoflop(grid(PAPER, 16, noise=0.003, sizes=15))
    assert fit.alternatives['exponentials'].a == pytest.approx(0.28 / 0.62, abs=0.02)


def test_budgets_come_of_the_compute_where_no_column_tells() -> None:
    runs = grid(TRUTH, 4)
    jitter = np.random.default_rng(0).uniform(0.96, 1.04, len(runs))
    told = slices_of(runs)
    found = slices_of(replace(runs, budget=None, tokens=runs.tokens * jitter))
    assert [len(points.x) for points in found] == [len(points.x) for points in told] == [9] * 5
    for here, there in zip(found, told, strict=True):
        assert here.flops == pytest.approx(there.flops, rel=0.04)


def test_one_budget_only() -> None:
    runs = grid(TRUTH, 4)
    with pytest.raises(UserError, match='budget: all runs are of 1e\\+18 FLOPs; give runs of'):
        fit_isoflop(runs.where(runs.budget == 1e18))


def test_the_minimum_at_the_edge_of_every_budget() -> None:
    runs = grid(TRUTH, 16)
    assert runs.budget is not None
    small = runs.where(runs.params < 0.7 * best_size(TRUTH, runs.budget))
    with pytest.raises(UserError, match='0 of 5 have a minimum within their sizes: 1e\\+18 has '):
        fit_isoflop(small)


def test_a_budget_of_two_sizes_is_dropped_and_an_alternative_said_to_be_missing() -> None:
    runs = grid(TRUTH, 4, sizes=3)
    keep = np.ones(len(runs), bool)
    keep[0] = False
    fit = fit_isoflop(runs.where(keep))
    assert [(drop.flops, drop.reason) for drop in fit.dropped] == [(1e18, '2 sizes, fewer than 3')]
    assert 'too few points for two shared exponents' in fit.unavailable['exponentials']
    assert '3 sizes, fewer than 4' in fit.unavailable['cubic']


def test_losses_that_curve_down_have_no_minimum() -> None:
    runs = grid(TRUTH, 4)
    assert runs.budget is not None
    losses = np.where(runs.budget == 1e20, 10 - runs.losses, runs.losses)
    fit = fit_isoflop(Runs(runs.params, runs.tokens, losses, budget=runs.budget))
    assert [drop.reason for drop in fit.dropped] == ['losses that curve down, or not at all']
    assert 1e20 not in [optimum.flops for optimum in fit.alternatives['exponentials'].optima]
