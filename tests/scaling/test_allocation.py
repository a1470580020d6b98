"""The closed form, against a search and the published figures."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lm.errors import UserError
from lm.scaling.allocation import optimal_allocation
from lm.scaling.isoflop import fit_isoflop
from lm.scaling.parametric import Constants, fit_parametric
from tests.scaling.published import chinchilla
from tests.scaling.surfaces import TRUTH, grid, scattered


def test_chinchillas_own_compute() -> None:
    best = optimal_allocation(fit_parametric(chinchilla(240)), 5.76e23)
    assert best.params == pytest.approx(7.32e10, rel=7e-4)
    assert best.tokens == pytest.approx(1.31e12, rel=4e-3)
    assert best.tokens_per_param == pytest.approx(17.9, abs=0.05)


@pytest.mark.parametrize('truth', [TRUTH, Constants(1.5, 50.0, 1e4, 0.2, 0.5)])
def test_no_other_size_is_better(truth: Constants) -> None:
    fit, flops = fit_parametric(scattered(truth), starts=16), 1e21
    best = optimal_allocation(fit, flops)
    assert 6 * best.params * best.tokens == pytest.approx(flops, rel=1e-12)

    def loss(log_params: float) -> float:
        params = np.exp(np.array([log_params]))
        return float(fit.loss(params, flops / 6 / params)[0])

    found = minimize_scalar(loss, bounds=(12, 32), options={'xatol': 1e-9})
    assert np.exp(found.x) == pytest.approx(best.params, rel=1e-4)


def test_1e26_as_an_integer_and_every_kind_of_fit() -> None:
    fit = fit_isoflop(grid(TRUTH, 4))
    best = optimal_allocation(fit, 10**26)
    assert best.flops == 1e26 and best.params == fit.params_law(1e26)
    assert 6 * best.params * best.tokens == pytest.approx(1e26, rel=1e-6)


@pytest.mark.parametrize('flops', [0, -1e21, float('nan'), float('inf'), 10**400])
def test_what_is_no_compute(flops: float) -> None:
    with pytest.raises(UserError, match='^flops='):
        optimal_allocation(fit_isoflop(grid(TRUTH, 4)), flops)


def test_a_law_without_an_optimum() -> None:
    fit = replace(fit_parametric(scattered(TRUTH), starts=8), beta=-0.1)
    with pytest.raises(UserError, match='beta=-0.1 have no best size'):
        optimal_allocation(fit, 1e21)
