"""Intervals by profile likelihood."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from lm.errors import UserError
from lm.scaling.allocation import optimal_allocation
from lm.scaling.parametric import fit_parametric
from lm.scaling.profile import Profile
from lm.scaling.runs import Runs
from tests.scaling.published import chinchilla
from tests.scaling.surfaces import TRUTH, best_size, scattered

QUANTILE = 2.7272  # of F with 1 and 235 degrees of freedom, at .9; of chi-square 2.7055


def least_with_alpha(runs: Runs, alpha: float) -> float:
    """The least objective with alpha held, by another minimizer over plain constants."""
    x, y = np.log(runs.params) - 20, np.log(runs.tokens) - 24

    def objective(free: np.ndarray) -> float:
        a, b, e, beta = free
        terms = np.stack([a - alpha * x, b - beta * y, np.full_like(x, e)])
        size = np.abs(np.logaddexp.reduce(terms) - np.log(runs.losses))
        return 1e6 * np.where(size <= 1e-3, size**2 / 2, 1e-3 * (size - 5e-4)).sum()

    now = np.array([-0.5, -1.5, 0.6, 0.37])
    for _ in range(6):
        now = minimize(
            objective, now, method='Nelder-Mead', options={'xatol': 1e-9, 'fatol': 1e-9}
        ).x
    return objective(now) / 1e6


def test_the_ends_are_where_the_objective_has_risen_by_the_quantile() -> None:
    runs = chinchilla(240)
    fit = fit_parametric(runs)
    profile = Profile(runs, fit)
    for end in profile.intervals()['alpha']:
        assert end is not None
        rise = 2 * (least_with_alpha(runs, end) - fit.objective) / profile.scale
        assert rise == pytest.approx(QUANTILE, rel=2e-3)


def test_holding_the_best_size_settles_b() -> None:
    runs = chinchilla(240)
    fit = fit_parametric(runs)
    profile = Profile(runs, fit)
    held, row = profile._best_size(1e22), profile._best + 0.01
    size = held.of(profile._best)
    assert np.exp(size) == pytest.approx(optimal_allocation(fit, 1e22).params)
    row[held.place] = held.settled(row, size + 0.1)
    assert held.of(row) == pytest.approx(size + 0.1, rel=1e-12)
    for i in {0, 2, 3, 4}:
        step = 1e-6 * np.eye(5)[i]
        slope = (held.settled(row + step, size) - held.settled(row - step, size)) / 2e-6
        assert held.slopes(row, size)[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_scale_by_hand() -> None:
    runs = chinchilla(240)
    fit = fit_parametric(runs)
    off = np.abs(np.log(fit.loss(runs.params, runs.tokens) / runs.losses))
    scale = (np.minimum(off, 1e-3) ** 2).sum() / ((off <= 1e-3).sum() - 5)
    assert Profile(runs, fit).scale == pytest.approx(scale, rel=1e-6)


def test_the_fit_lies_within_and_a_higher_level_is_wider() -> None:
    runs = chinchilla(240)
    fit = fit_parametric(runs)
    profile = Profile(runs, fit)
    best = optimal_allocation(fit, 5.76e23)
    values = {'alpha': fit.alpha, 'beta': fit.beta, 'a': fit.a}
    values |= {'params': best.params, 'tokens': best.tokens}
    narrow = profile.intervals() | profile.optimal_intervals(5.76e23)
    wide = profile.intervals(0.99) | profile.optimal_intervals(5.76e23, 0.99)
    assert narrow.keys() == values.keys()
    for name, value in values.items():
        (low, high), (lower, higher) = narrow[name], wide[name]
        assert None not in (low, high, lower, higher)
        assert lower < low < value < high < higher
    params, tokens = narrow['params'], narrow['tokens']
    assert 6 * params[0] * tokens[1] == pytest.approx(5.76e23)


def test_losses_without_error_leave_no_room() -> None:
    runs = scattered(TRUTH)
    low, high = Profile(runs, fit_parametric(runs, starts=16)).intervals()['alpha']
    assert low == high == pytest.approx(TRUTH.alpha, rel=1e-6)


def test_an_end_that_is_not_reached_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = scattered(TRUTH, 60, noise=0.02, seed=4)
    profile = Profile(runs, fit_parametric(runs, starts=64))
    low, high = profile.intervals(0.99)['alpha']
    assert low is not None and high is not None
    monkeypatch.setattr('lm.scaling.profile.WIDENINGS', 0)
    assert profile.intervals(0.99)['alpha'] == (None, None)
    assert profile.optimal_intervals(1e22)['tokens'] == (None, None)


def test_what_has_no_profile() -> None:
    runs = scattered(TRUTH, 40, noise=0.003)
    fit = fit_parametric(runs, starts=16)
    with pytest.raises(UserError, match='profile: the fit did not converge'):
        Profile(runs, replace(fit, converged=False))
    with pytest.raises(UserError, match='profile: points of one run err together'):
        Profile(replace(runs, run=tuple('ab' * 20)), fit)
    far_off = scattered(TRUTH, 20, noise=0.05)
    with pytest.raises(UserError, match='profile: too few residuals are within 1e-3'):
        Profile(far_off, fit_parametric(far_off, starts=64))
    with pytest.raises(UserError, match='level=90'):
        Profile(runs, fit).intervals(90)


@pytest.mark.slow  # 200 fits with four profiles each: minutes
def test_intervals_cover_the_truth() -> None:
    truth = {'alpha': TRUTH.alpha, 'beta': TRUTH.beta, 'a': TRUTH.beta / (TRUTH.alpha + TRUTH.beta)}
    truth['params'] = float(best_size(TRUTH, np.array(1e23)))
    covered = dict.fromkeys(truth, 0)
    for seed in range(200):
        runs = scattered(TRUTH, noise=0.003, seed=seed)
        profile = Profile(runs, fit_parametric(runs, starts=16))
        intervals = profile.intervals() | profile.optimal_intervals(1e23)
        for name in covered:
            low, high = intervals[name]
            assert low is not None and high is not None
            covered[name] += low <= truth[name] <= high
    assert all(0.84 <= count / 200 <= 0.96 for count in covered.values()), covered
