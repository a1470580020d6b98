"""The loss of the best runs by compute."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from lm.errors import UserError
from lm.scaling.compute_law import fit_compute_law
from tests.scaling.published import column, published


def test_cerebras_gpt() -> None:
    path = published('cerebras_gpt.csv')
    flops, losses = (
        column(path, name).astype(np.float64) for name in ('flops', 'pile_test_loss_paper')
    )
    law = fit_compute_law(flops, losses)
    assert law.scale == pytest.approx(6.5e22, rel=0.01)
    assert [law.exponent, law.E] == pytest.approx([0.0733, 0.501], abs=5e-4)
    assert law.form == 'E + K C^-c'


def test_no_other_constants_are_nearer() -> None:
    random = np.random.default_rng(0)
    flops = np.geomspace(1e18, 1e22, 7)
    losses = 1.7 + (flops / 3e20) ** -0.12 + 0.01 * random.standard_normal(7)
    law = fit_compute_law(flops, losses)
    again = least_squares(
        lambda q: q[0] + np.exp(q[1] - q[2] * np.log(flops / 1e20)) - losses,
        [1.5, 0.0, 0.1], xtol=1e-15, ftol=1e-15, gtol=1e-15,
    )  # fmt: skip
    assert [law.E, law.exponent] == pytest.approx([again.x[0], again.x[2]], rel=1e-5)


@pytest.mark.parametrize(('E', 'exponent'), [(1.7, 0.15), (0.0, 0.05), (2.4, 0.3)])
def test_truth_comes_back(E: float, exponent: float) -> None:
    flops = np.geomspace(1e17, 1e22, 5)
    law = fit_compute_law(flops, E + (flops / 1e21) ** -exponent)
    assert [law.E, law.exponent] == pytest.approx([E, exponent], abs=1e-6)
    assert law(1e24) == pytest.approx(E + 1e3**-exponent, abs=1e-5)


def test_no_floor_lies_below_nil() -> None:
    flops = np.geomspace(1e18, 1e21, 6)
    losses = 3 - 0.25 * np.log10(flops / 1e18)  # straight: unbounded, E would be far below nil
    law = fit_compute_law(flops, losses)
    assert law.E == 0 and 2.2 < law(1e21) < 2.3 and law(1e30) > 0


def test_three_points_have_no_floor() -> None:
    flops = np.array([1e18, 1e19, 1e20])
    law = fit_compute_law(flops, (flops / 1e21) ** -0.05)
    assert law.form == 'K C^-c' and law.E == 0 and law.exponent == pytest.approx(0.05, rel=1e-9)
    assert law.scale == pytest.approx(1e21, rel=1e-6)


@pytest.mark.parametrize('points', [2, 5])
def test_what_has_no_law(points: int) -> None:
    flops = np.geomspace(1e18, 1e20, points)
    with pytest.raises(UserError, match='do not fall with compute'):
        fit_compute_law(flops, np.linspace(2.0, 2.5, points))
    with pytest.raises(UserError, match='all points are of C = 1e\\+18'):
        fit_compute_law(np.full(points, 1e18), np.linspace(2.5, 2, points))
