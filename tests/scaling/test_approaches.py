"""The three approaches by one interface."""

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.approaches import METHODS, Method, fit_approach
from lm.scaling.parametric import ParametricFit
from lm.scaling.runs import Runs
from tests.scaling.surfaces import TRUTH, best_size, grid


@pytest.mark.parametrize('method', METHODS)
def test_a_known_surface(method: Method) -> None:
    approach = fit_approach(method, grid(TRUTH, 4), resamples=20)
    found = approach.predict(1e22)
    best = float(best_size(TRUTH, np.array(1e22)))
    E, A, B, alpha, beta = TRUTH
    loss = E + A / best**alpha + B / (1e22 / 6 / best) ** beta
    exact = method == 'parametric'
    assert found.params == pytest.approx(best, rel=1e-5 if exact else 0.05)
    assert found.loss == pytest.approx(loss, rel=1e-8 if exact else 3e-4)
    assert approach.largest == pytest.approx(1e22) and found.flops == 1e22
    assert not approach.far(1e23) and approach.far(1.01e23)
    assert found.intervals.keys() == {'params', 'tokens', 'loss'}
    wide, narrow = (approach.predict(1e22, level).intervals['loss'] for level in (0.9, 0.5))
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_without_resamples_there_are_no_intervals() -> None:
    approach = fit_approach('isoflop', grid(TRUTH, 4), resamples=0)
    assert approach.resampled is None and approach.predict(1e22).intervals == {}


def test_intervals_are_of_the_approach_itself() -> None:
    approach = fit_approach('parametric', grid(TRUTH, 4, noise=0.003), resamples=100)
    assert isinstance(approach.fit, ParametricFit) and approach.resampled is not None
    found = approach.predict(10**24)
    assert found.loss is not None
    for name, value in (('params', found.params), ('tokens', found.tokens), ('loss', found.loss)):
        low, high = found.intervals[name]
        assert low < value < high


def test_losses_that_rise_foretell_none() -> None:
    flat = grid(TRUTH, 4)
    assert flat.budget is not None
    losses = flat.losses + 2 * np.log10(flat.budget / 1e18)
    rising = Runs(flat.params, flat.tokens, losses, budget=flat.budget)
    found = fit_approach('isoflop', rising, resamples=4).predict(1e22)
    assert found.loss is None and found.intervals.keys() == {'params', 'tokens'}


def test_mistakes_name_the_field() -> None:
    runs = grid(TRUTH, 4)
    approach = fit_approach('isoflop', runs, resamples=4)
    with pytest.raises(UserError, match='^flops='):
        approach.predict(-1.0)
    with pytest.raises(UserError, match='level=90'):
        approach.predict(1e22, 90)
    with pytest.raises(UserError, match='budget: all runs are of'):
        fit_approach('isoflop', runs.where(runs.budget == 1e18))
