"""Errors and intervals of the parametric fit."""

from dataclasses import replace

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.allocation import optimal_allocation
from lm.scaling.bootstrap import bootstrap_parametric
from lm.scaling.parametric import fit_parametric
from lm.scaling.runs import Runs
from tests.scaling.published import chinchilla
from tests.scaling.surfaces import TRUTH, scattered


def test_the_240_points() -> None:
    runs = chinchilla(240)
    fit = fit_parametric(runs)
    drawn = bootstrap_parametric(runs, fit)
    assert drawn.kept == drawn.resamples == 1000
    errors = drawn.standard_errors()
    assert [errors[name] for name in ('alpha', 'beta', 'a', 'E')] == pytest.approx(
        [0.015, 0.021, 0.019, 0.027], rel=0.1
    )
    best = optimal_allocation(fit, 5.76e23)
    intervals = drawn.intervals() | drawn.optimal_intervals(5.76e23)
    centres = {**fit.constants._asdict(), 'a': fit.a, 'params': best.params, 'tokens': best.tokens}
    centres['loss'] = float(fit.loss(np.array([best.params]), np.array([best.tokens]))[0])
    assert intervals.keys() == centres.keys()
    for name, centre in centres.items():
        low, high = intervals[name]
        assert low < centre < high, name
    wider = drawn.intervals(0.99)
    assert all(wider[name][0] < low < high < wider[name][1] for name, (low, high) in
               drawn.intervals().items())  # fmt: skip


def test_a_resample_is_a_fit_of_the_points_drawn() -> None:
    runs = scattered(TRUTH, 60, noise=0.003)
    fit = fit_parametric(runs, starts=32)
    drawn = bootstrap_parametric(runs, fit, resamples=4, seed=5)
    counts = np.random.default_rng(5).multinomial(60, np.full(60, 1 / 60), size=4)
    for constants, count in zip(drawn.constants, counts, strict=True):
        again = fit_parametric(runs.where(np.repeat(np.arange(60), count)), starts=32)
        np.testing.assert_allclose(constants, again.constants, rtol=1e-6)


def test_points_of_one_run_are_drawn_together() -> None:
    few = scattered(TRUTH, 40, noise=0.003)
    tripled = few.where(np.repeat(np.arange(40), 3))
    named = replace(tripled, run=tuple(str(i // 3) for i in range(120)))
    fit = fit_parametric(few, starts=32)
    by_point = bootstrap_parametric(tripled, fit, 300).standard_errors()['alpha']
    by_run = bootstrap_parametric(named, fit, 300).standard_errors()['alpha']
    alone = bootstrap_parametric(few, fit, 300).standard_errors()['alpha']
    # Three copies of a point tell no more than one: only the draw of whole runs knows.
    assert by_run == pytest.approx(alone, rel=0.2) and by_point < 0.75 * by_run


def test_the_same_seed_draws_the_same() -> None:
    runs = scattered(TRUTH, 40, noise=0.003)
    fit = fit_parametric(runs, starts=16)
    first, again, other = (bootstrap_parametric(runs, fit, 5, seed).constants for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).all()


def test_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = scattered(TRUTH, 40, noise=0.003)
    fit = fit_parametric(runs, starts=16)
    whole = bootstrap_parametric(runs, fit, 7)
    monkeypatch.setattr('lm.scaling.bootstrap.AT_ONCE', 100)
    np.testing.assert_allclose(bootstrap_parametric(runs, fit, 7).constants, whole.constants)


def test_resamples_that_did_not_come_to_rest_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = scattered(TRUTH, 40, noise=0.003)
    fit = fit_parametric(runs, starts=16)
    monkeypatch.setattr('lm.scaling.huber.MOST_STEPS', 9)
    some = bootstrap_parametric(runs, fit, 200)
    assert 2 <= some.kept < some.resamples == 200
    monkeypatch.setattr('lm.scaling.huber.MOST_STEPS', 0)
    with pytest.raises(UserError, match='of 200 resamples have a minimum'):
        bootstrap_parametric(runs, fit, 200)


def test_what_cannot_be_drawn() -> None:
    runs = scattered(TRUTH, 20)
    fit = fit_parametric(runs, starts=16)
    with pytest.raises(UserError, match='resamples=1 of 20 runs'):
        bootstrap_parametric(runs, fit, 1)
    two = replace(runs, run=tuple('ab' * 10))
    with pytest.raises(UserError, match='of 2 runs'):
        bootstrap_parametric(two, fit)
    with pytest.raises(UserError, match='level=90: between 0 and 1'):
        bootstrap_parametric(runs, fit, 2).intervals(90)


@pytest.mark.slow  # 200 fits of 200 resamples each: minutes
def test_intervals_cover_the_truth() -> None:
    truth = {**TRUTH._asdict(), 'a': TRUTH.beta / (TRUTH.alpha + TRUTH.beta)}
    covered = dict.fromkeys(('alpha', 'beta', 'a'), 0)
    for seed in range(200):
        runs: Runs = scattered(TRUTH, noise=0.003, seed=seed)
        fit = fit_parametric(runs, starts=16)
        assert fit.converged
        intervals = bootstrap_parametric(runs, fit, 200, seed).intervals(0.9)
        for name in covered:
            low, high = intervals[name]
            covered[name] += low <= truth[name] <= high
    assert all(0.84 <= count / 200 <= 0.96 for count in covered.values()), covered
