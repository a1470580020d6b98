"""What another size costs."""

import pytest
from scipy.optimize import brentq

from lm.scaling.off_optimal import FACTORS, price
from lm.scaling.surface import Surface
from tests.scaling.surfaces import TRUTH

LAW = Surface('truth', TRUTH)


@pytest.mark.parametrize('factor', FACTORS)
def test_against_the_surface(factor: float) -> None:
    best, found = LAW.best(1e22), price(LAW, 1e22, factor)
    assert found.params == pytest.approx(factor * best.params)
    assert 6 * found.params * found.tokens == pytest.approx(1e22)
    assert found.extra_loss == pytest.approx(LAW.loss(found.params, found.tokens) - best.loss)
    tokens = brentq(lambda d: LAW.loss(found.params, d) - best.loss, 1e9, 1e16, xtol=1)
    assert found.catch_up_tokens == pytest.approx(tokens, rel=1e-6)
    assert found.extra_compute == pytest.approx(6 * found.params * tokens / 1e22 - 1, rel=1e-5)
    assert found.extra_loss > 0 and found.extra_compute > 0


def test_the_best_size_costs_nothing() -> None:
    found = price(LAW, 1e22, 1.0)
    assert found.extra_loss == pytest.approx(0, abs=1e-12)
    assert found.extra_compute == pytest.approx(0, abs=1e-9)


def test_the_price_does_not_depend_on_the_compute() -> None:
    # N* and D* scale both terms of the loss alike (de Vries 2023).
    assert price(LAW, 1e20, 0.5).extra_compute == pytest.approx(price(LAW, 1e25, 0.5).extra_compute)


def test_a_size_that_never_catches_up() -> None:
    assert price(LAW, 1e22, 0.01).extra_compute == float('inf')
