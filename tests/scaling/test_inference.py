"""The cheapest model over training and use."""

import math

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.inference import inference_optimum
from lm.scaling.surface import Constants, Surface
from tests.scaling.surfaces import TRUTH

LAW = Surface('truth', TRUTH)
SARDANA = Surface('sardana2023', Constants(1.69, 406.4, 410.7, 0.336, 0.283))
"""The constants that Sardana et al. 2023 take for Hoffmann et al.'s."""


@pytest.mark.parametrize('flops', [1e20, 5.76e23])
@pytest.mark.parametrize('inference_tokens', [1e8, 1e11, 1e13, 1e16])
def test_against_every_size(flops: float, inference_tokens: float) -> None:
    found = inference_optimum(LAW, flops, inference_tokens)
    best = LAW.best(flops)
    assert found.loss == best.loss == pytest.approx(LAW.loss(found.params, found.tokens))
    params = found.params * np.exp(np.linspace(-2, 2, 40_001))
    tokens = np.array([LAW.tokens_for(float(n), best.loss - TRUTH.E) for n in params])
    costs = 6 * params * tokens + 2 * params * inference_tokens
    assert found.train_flops + found.inference_flops <= costs.min() * (1 + 1e-12)
    # So flat where there is hardly any use that rounding moves the least of the costs.
    assert params[costs.argmin()] == pytest.approx(found.params, rel=2e-4)
    plain = flops + 2 * best.params * inference_tokens
    assert found.saved == pytest.approx(1 - costs.min() / plain, abs=1e-8)


def test_without_use_it_is_the_best_of_the_compute() -> None:
    found = inference_optimum(LAW, 1e22, 1.0)
    best = LAW.best(1e22)
    assert (found.params, found.tokens) == pytest.approx((best.params, best.tokens))
    assert found.saved == pytest.approx(0, abs=1e-9)


def test_the_papers_example() -> None:
    # Sardana et al. 2023, section 1: for 2e12 tokens of use a 7B of more tokens stands in for a
    # 13B, and saves 1.7e22 FLOPs, 17 %.
    law = SARDANA.params_law
    flops = math.exp((math.log(13e9) - law.log_constant) / law.exponent)
    found = inference_optimum(SARDANA, flops, 2e12)
    assert round(found.params / 1e9) == 7 and round(found.saved, 2) == 0.17
    total = found.train_flops + found.inference_flops
    assert flops + 2 * 13e9 * 2e12 - total == pytest.approx(1.7e22, rel=0.01)


def test_the_papers_program() -> None:
    # Its README: loss 1.947 and 2e12 tokens of use give 2.418e10 parameters, 70.96 % of the
    # equally good Chinchilla's, and 2.657e12 tokens.
    low, high = 1e20, 1e26
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if SARDANA.best(middle).loss > 1.947 else (low, middle)
    found = inference_optimum(SARDANA, low, 2e12)
    assert found.params == pytest.approx(2.418e10, rel=2e-3)
    assert found.tokens == pytest.approx(2.657e12, rel=2e-3)
    assert found.params / SARDANA.best(low).params == pytest.approx(0.7096, rel=1e-3)


@pytest.mark.parametrize('wrong', [0.0, -1.0, math.nan, math.inf, 1e250])
def test_no_such_use(wrong: float) -> None:
    with pytest.raises(UserError, match='inference_tokens='):
        inference_optimum(LAW, 1e22, wrong)
