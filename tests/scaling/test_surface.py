"""The surface of known constants."""

import math

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.surface import Constants, Surface
from tests.scaling.surfaces import TRUTH, best_size

LAW = Surface('truth', TRUTH)


@pytest.mark.parametrize('flops', [1e18, 1e21, 1e26])
def test_the_best_size_is_a_minimum(flops: float) -> None:
    best = LAW.best(flops)
    assert best.params == pytest.approx(float(best_size(TRUTH, np.array(flops))))
    assert 6 * best.params * best.tokens == pytest.approx(flops)
    for factor in (0.99, 1.01):
        assert LAW.loss(factor * best.params, best.tokens / factor) > best.loss
    assert LAW.best_params(best.tokens) == pytest.approx(best.params)


def test_tokens_for_a_loss() -> None:
    assert LAW.loss(1e9, 3e10) == pytest.approx(TRUTH.E + LAW.reducible(1e9, 3e10))
    assert LAW.tokens_for(1e9, LAW.reducible(1e9, 3e10)) == pytest.approx(3e10)
    assert LAW.tokens_for(1e9, 0.01) == math.inf
    # So near to what N can reach that D overflows a float.
    steep = Surface('steep', Constants(1.0, 400.0, 400.0, 0.3, 0.01))
    assert steep.tokens_for(1e9, steep.reducible(1e9, math.inf) + 1e-12) == math.inf


@pytest.mark.parametrize('wrong', [{'alpha': -0.1}, {'beta': 0.0}, {'A': math.inf}])
def test_no_best_size(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match='no best size'):
        Surface('wrong', TRUTH._replace(**wrong))
