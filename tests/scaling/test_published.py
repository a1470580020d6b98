"""Published laws: the figures of their own papers."""

import csv
import math

import numpy as np
import pytest

from lm.planning.devices import PF_DAY
from lm.scaling import published as laws
from lm.scaling.bootstrap import bootstrap_parametric
from lm.scaling.parametric import fit_parametric
from lm.scaling.published import HOFFMANN_ROWS, LAWS, PublishedLaw, Spread, rule_of_20
from tests.scaling.published import chinchilla, published


def law(name: str) -> PublishedLaw:
    return next(law for law in LAWS if law.name == name)


def test_rows_of_table_3() -> None:
    lines = [line for line in published('chinchilla_table3.csv').open() if not line.startswith('#')]
    printed = [
        tuple(float(row[name]) for name in ('params', 'flops', 'tokens'))
        for row in csv.DictReader(lines)
    ]
    assert printed == [row[:3] for row in HOFFMANN_ROWS]


@pytest.mark.parametrize('approach', [1, 2, 3])
def test_rows_agree_with_their_laws(approach: int) -> None:
    found = law(f'hoffmann2022_approach{approach}')
    for row in HOFFMANN_ROWS:
        params, flops, tokens = row[0], row[2 * approach - 1], row[2 * approach]
        assert found.params_law(flops) == pytest.approx(params, rel=0.04)
        assert 6 * params * tokens == pytest.approx(flops, rel=0.05)


def test_exponents_and_predictions_in_the_text() -> None:
    # Hoffmann et al. 2022: table 2; figure 3 (63e9 by approach 2); section D.4, 1e21 FLOPs.
    exponents = {1: 0.50, 2: 0.49, 3: 0.46}
    for approach, exponent in exponents.items():
        found = law(f'hoffmann2022_approach{approach}').params_law.exponent
        assert round(found, 2) == exponent
    assert law('hoffmann2022_approach2').params_law(5.76e23) == pytest.approx(63e9, rel=0.01)
    assert law('hoffmann2022_approach1').params_law(1e21) == pytest.approx(2.86e9, rel=0.001)
    assert law('kaplan2020').params_law(1e21) == pytest.approx(4.68e9, rel=0.001)


def test_the_refit() -> None:
    # Besiroglu et al. 2024, section 5: about 20 tokens a parameter at Chinchilla's compute.
    best = law('besiroglu2024').params_law(5.76e23)
    assert 15 < 5.76e23 / 6 / best**2 < 25


def test_units() -> None:
    assert laws.PF_DAY == PF_DAY


def test_rule_of_20() -> None:
    params, tokens = rule_of_20(5.88e23)
    assert params == pytest.approx(70e9) and tokens == pytest.approx(1.4e12)


def test_a_spread_grows_from_its_pivot() -> None:
    found = law('besiroglu2024')
    assert found.spread is not None
    widths = []
    for flops in (found.spread.pivot, 1e21, 1e24):
        low, high = found.spread.of_params(found.params_law, flops)
        assert low < found.params_law(flops) < high
        widths.append(math.log(high / low))
    assert widths == sorted(widths)
    assert widths[0] == pytest.approx(2 * 1.2816 * 0.0230, rel=1e-3)


def test_a_spread_of_the_exponent_alone() -> None:
    found = law('hoffmann2022_approach2')
    assert found.spread is not None and found.spread.of_exponent_alone
    away = math.log(5.76e23 / found.spread.pivot)
    low, high = found.spread.of_params(found.params_law, 5.76e23)
    assert math.log(high / low) == pytest.approx((0.534 - 0.462) * away)
    # Below the pivot the larger exponent gives the smaller model.
    low, high = found.spread.of_params(found.params_law, 1e18)
    assert low < found.params_law(1e18) < high


def test_the_spread_of_the_refit_is_that_of_its_points() -> None:
    runs = chinchilla(240)
    drawn = bootstrap_parametric(runs, fit_parametric(runs, 32), 500)
    spread = law('besiroglu2024').spread
    assert isinstance(spread, Spread)
    for flops in (1e19, 1e21, 5.76e23):
        ends = drawn.optimal_intervals(flops, laws.LEVEL)['params']
        told = spread.of_params(law('besiroglu2024').params_law, flops)
        assert np.log(told[1] / told[0]) == pytest.approx(np.log(ends[1] / ends[0]), rel=0.2)
