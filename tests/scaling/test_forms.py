"""Other forms of the law: published figures, known truth, and their best sizes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lm.errors import UserError
from lm.scaling.forms import FORMS, FormFit, fit_form
from lm.scaling.hold_out import hold_out_form
from lm.scaling.parametric import Constants, fit_parametric
from lm.scaling.runs import Runs
from tests.scaling.published import chinchilla, column, published
from tests.scaling.surfaces import TRUTH, scattered

TIED = Constants(1.7, 400.0, 600.0, 0.35, 0.35)
NC, DC, ALPHA_N, ALPHA_D = 8.8e13, 5.4e13, 0.076, 0.095
"""Kaplan et al. 2020, table 5."""


def kaplan(noise: float = 0.0) -> Runs:
    runs = scattered(TRUTH)
    losses = ((NC / runs.params) ** (ALPHA_N / ALPHA_D) + DC / runs.tokens) ** ALPHA_D
    return replace(
        runs, losses=losses * np.exp(noise * np.random.default_rng(0).standard_normal(240))
    )


def gadre() -> Runs:
    """The five small models that the paper fits, then the two that it foretells."""
    path = published('gadre_c4.csv')
    params, tokens, losses, multiple = (
        column(path, name).astype(np.float64)
        for name in ('params', 'tokens', 'loss_c4_val', 'mult')
    )
    fitted = ((multiple == 1) & (params < 1e9)) | ((multiple == 16) & (params < 2e7))
    foretold = ((multiple == 4) & (params > 1e9)) | ((multiple == 1) & (params > 6e9))
    index = np.concatenate([np.flatnonzero(fitted), np.flatnonzero(foretold)])
    assert len(index) == 7
    return Runs(params[index], tokens[index], losses[index])


def test_gadre() -> None:
    runs = gadre()
    fit = fit_form('gadre', runs.where(np.arange(5)))
    assert fit.constants['eta'] == pytest.approx(0.1212, abs=5e-5)
    assert fit.constants['E'] == pytest.approx(1.508, abs=5e-4) and fit.converged
    held = hold_out_form('gadre', runs, 1e20)
    assert (held.fitted, held.left_out) == (5, 2)
    assert held.loss_errors == pytest.approx([0.0150, -0.0430], abs=5e-5)


def test_gadres_constants_are_of_the_formula() -> None:
    runs = scattered(TIED)
    fit = fit_form('gadre', runs)
    eta = fit.constants['eta']
    assert eta == pytest.approx(0.175, rel=1e-6)
    by_hand = (
        fit.constants['E']
        + fit.constants['a'] * runs.params ** (-2 * eta)
        + fit.constants['b'] * 6**-eta * runs.tokens ** (-2 * eta)
    )
    np.testing.assert_allclose(by_hand, runs.losses, rtol=1e-8)
    assert fit.constants['a'] == pytest.approx(400, rel=1e-4)


def test_cerebras() -> None:
    path = published('cerebras_gpt.csv')
    params, tokens, flops, losses = (
        column(path, name).astype(np.float64)
        for name in ('params', 'tokens', 'flops', 'pile_test_loss_paper')
    )
    fit = fit_form('power', Runs(params, tokens, losses, flops=flops))
    assert fit.constants['C0'] == pytest.approx(6.5e22, rel=0.01)
    assert [fit.constants['c'], fit.constants['E']] == pytest.approx([0.0733, 0.501], abs=5e-4)
    assert fit.predict(2.3e22).loss == pytest.approx(1.572, rel=0.02)


def test_tied_exponents_come_back() -> None:
    fit = fit_form('tied', scattered(TIED))
    found = [fit.constants[name] for name in ('E', 'A', 'B', 'alpha')]
    assert found == pytest.approx(TIED[:4], rel=1e-6) and fit.converged


def test_tied_exponents_cannot_fit_better_than_free_ones() -> None:
    runs = chinchilla(240)
    tied, free = fit_form('tied', runs), fit_parametric(runs)
    assert free.objective < tied.objective < 1.01 * free.objective
    assert min(free.alpha, free.beta) < tied.constants['alpha'] < max(free.alpha, free.beta)
    # The objective is that of the law with these constants.
    off = np.abs(np.log(tied.loss(runs.params, runs.tokens, runs.compute) / runs.losses))
    by_hand = np.where(off <= 1e-3, off**2 / 2, 1e-3 * (off - 5e-4)).sum()
    assert tied.objective == pytest.approx(by_hand, rel=1e-9)
    for name in ('E', 'A', 'B', 'alpha'):
        for factor in (0.9999, 1.0001):
            c = tied.constants | {name: tied.constants[name] * factor}
            losses = (
                c['E'] + c['A'] / runs.params ** c['alpha'] + c['B'] / runs.tokens ** c['alpha']
            )
            off = np.abs(np.log(losses / runs.losses))
            assert np.where(off <= 1e-3, off**2 / 2, 1e-3 * (off - 5e-4)).sum() > by_hand


@pytest.mark.parametrize('noise', [0.0, 0.002])
def test_kaplans_joint_law_comes_back(noise: float) -> None:
    fit = fit_form('kaplan', kaplan(noise))
    found = [fit.constants[name] for name in ('alpha_N', 'alpha_D')]
    assert found == pytest.approx([ALPHA_N, ALPHA_D], rel=0.03 if noise else 1e-9)
    assert fit.converged
    if not noise:
        assert [fit.constants['Nc'], fit.constants['Dc']] == pytest.approx([NC, DC], rel=1e-6)


@pytest.mark.parametrize(
    ('form', 'constants'),
    [
        ('kaplan_n', {'Nc': NC, 'alpha_N': ALPHA_N}),
        ('kaplan_d', {'Dc': DC, 'alpha_D': ALPHA_D}),
        ('kaplan_c', {'Cc': 3.1e8 * 8.64e19, 'alpha_C': 0.050}),
    ],
)
def test_kaplans_lines_come_back(form: str, constants: dict[str, float]) -> None:
    runs = scattered(TRUTH, 20)
    scale, exponent = constants.values()
    values = {'kaplan_n': runs.params, 'kaplan_d': runs.tokens, 'kaplan_c': runs.compute}[form]
    fit = fit_form(form, replace(runs, losses=(scale / values) ** exponent))
    assert fit.constants == pytest.approx(constants, rel=1e-8)


@pytest.mark.parametrize('form', ['tied', 'gadre', 'kaplan'])
def test_no_other_size_is_better(form: str) -> None:
    fit: FormFit = fit_form(form, kaplan() if form == 'kaplan' else scattered(TIED))
    best = fit.predict(1e22)
    assert best.params is not None and best.tokens is not None
    assert 6 * best.params * best.tokens == pytest.approx(1e22)

    def loss(log_params: float) -> float:
        params = np.exp(np.array([log_params]))
        return float(fit.loss(params, 1e22 / 6 / params, np.array([1e22]))[0])

    found = minimize_scalar(loss, bounds=(14, 32), method='bounded', options={'xatol': 1e-9})
    assert np.exp(found.x) == pytest.approx(best.params, rel=1e-4)
    assert best.loss == pytest.approx(found.fun, rel=1e-10)


@pytest.mark.parametrize('form', list(FORMS))
def test_too_few_runs(form: str) -> None:
    runs = scattered(TRUTH, 4)
    with pytest.raises(UserError, match='points for the [24] constants|different values'):
        fit_form(form, runs.where(np.arange(1)))
    same = Runs(np.full(5, 1e8), np.full(5, 1e9), np.linspace(3, 2, 5))
    with pytest.raises(UserError, match='different values|all points are of C'):
        fit_form(form, same)


def test_mistakes() -> None:
    runs = scattered(TRUTH, 20)
    with pytest.raises(UserError, match='form=tide; did you mean tied'):
        fit_form('tide', runs)
    rising = replace(runs, losses=1 + np.argsort(np.argsort(runs.params)) / 20)
    with pytest.raises(UserError, match='loss: does not fall with params'):
        fit_form('kaplan_n', rising)
    with pytest.raises(UserError, match='says nothing of a compute'):
        fit_form('kaplan_n', runs).predict(1e21)
    with pytest.raises(UserError, match='flops=-1'):
        fit_form('tied', runs).predict(-1.0)
