"""Intervals of the iso-FLOP and envelope fits."""

from dataclasses import replace

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.draws import draw
from lm.scaling.envelope import fit_envelope
from lm.scaling.frontier_bootstrap import FrontierBootstrap, bootstrap_envelope, bootstrap_isoflop
from lm.scaling.isoflop import fit_isoflop
from lm.scaling.runs import Runs, read_runs
from lm.scaling.vertices import exponentials
from tests.scaling.published import published
from tests.scaling.surfaces import TRUTH, best_size, grid
from tests.scaling.test_envelope import curves


def test_a_resample_is_a_fit_of_the_points_drawn() -> None:
    runs = grid(TRUTH, 4, noise=0.003)
    drawn = bootstrap_isoflop(runs, fit_isoflop(runs), resamples=3, seed=5)
    assert drawn.draws.tolist() == [0, 1, 2]
    for i in range(3):
        again = fit_isoflop(runs.where(draw(runs, 3, 5).index(i)))
        assert drawn.exponents[i].tolist() == pytest.approx([again.a, again.b], rel=1e-12)
        assert drawn.optimal(1e21)['params'][i] == pytest.approx(again.params_law(1e21), rel=1e-9)
        assert drawn.loss_laws[i](1e21) == pytest.approx(again.loss_law(1e21), rel=1e-9)


def test_chinchilla() -> None:
    runs = read_runs(published('isoflop_chinchilla_epoch.csv'))
    drawn = bootstrap_isoflop(runs, fit_isoflop(runs))
    assert drawn.kept == drawn.resamples == len(drawn.loss_laws) == 1000
    low, high = drawn.intervals()['a']
    assert low < 0.49 < high and 0.03 < high - low < 0.1
    low, high = drawn.optimal_intervals(5.76e23)['params']
    assert low < 62.4e9 < high


def test_gemstones_by_whole_runs() -> None:
    runs = read_runs(published('gemstones_hot_curves.csv'))
    by_run = bootstrap_envelope(runs, fit_envelope(runs), 40)
    by_point = bootstrap_envelope(replace(runs, run=None), fit_envelope(runs), 40)
    assert by_run.kept == 40
    low, high = by_run.intervals()['a']
    assert low < 0.49938 < high
    assert by_point.standard_errors()['a'] < 0.9 * by_run.standard_errors()['a']


def covered(truth: float, interval: tuple[float, float]) -> bool:
    return interval[0] <= truth <= interval[1]


def test_intervals_hold_the_truth_of_a_known_surface() -> None:
    a = TRUTH.beta / (TRUTH.alpha + TRUTH.beta)
    runs = grid(TRUTH, 4, noise=0.001, sizes=15)
    drawn = bootstrap_isoflop(runs, fit_isoflop(runs), 60, vertices=exponentials)
    best = float(best_size(TRUTH, np.array(1e23)))
    assert covered(a, drawn.intervals()['a'])
    assert covered(best, drawn.optimal_intervals(1e23)['params'])
    assert covered(1e23 / 6 / best, drawn.optimal_intervals(1e23)['tokens'])


def test_resamples_without_a_fit_are_counted() -> None:
    runs = grid(TRUTH, 2, noise=0.01, sizes=3)
    drawn = bootstrap_isoflop(runs, fit_isoflop(runs), 200)
    assert 2 <= drawn.kept < drawn.resamples == 200 and len(drawn.loss_laws) <= drawn.kept
    # Four optima bear a floor; a draw that lost one of them bears none, and foretells no loss.
    five = grid(TRUTH, 2, noise=0.003, sizes=5)
    four = five.where(five.budget != 1e18)
    drawn = bootstrap_isoflop(four, fit_isoflop(four), 100)
    assert {law.form for law in drawn.loss_laws} == {'E + K C^-c'}
    assert 2 <= len(drawn.loss_laws) < drawn.kept
    three = curves(3)
    some = bootstrap_envelope(three, fit_envelope(three), 90)
    assert 60 < some.kept < 90  # a draw in nine is thrice the same run


def test_what_cannot_be_drawn() -> None:
    runs = grid(TRUTH, 4)
    with pytest.raises(UserError, match='resamples=1 of 45 runs: give at least 2'):
        bootstrap_isoflop(runs, fit_isoflop(runs), 1)
    three = runs.where(np.array([0, 4, 8, 9, 13, 17]))
    with pytest.raises(UserError, match='of 2 resamples have a fit; give more runs'):
        bootstrap_isoflop(three, fit_isoflop(three), 2, seed=1)


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> FrontierBootstrap:
        return bootstrap_isoflop(noisy, fit_isoflop(noisy), 5, seed)

    noisy: Runs = grid(TRUTH, 4, noise=0.003)
    assert (drawn(1).exponents == drawn(1).exponents).all()
    assert (drawn(1).exponents != drawn(2).exponents).all()
