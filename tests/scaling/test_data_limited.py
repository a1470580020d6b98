"""Repeated text."""

import math

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.data_limited import (
    DATA_DECAY,
    PARAMS_DECAY,
    data_limited_optimum,
    effective,
    effective_size,
)
from lm.scaling.surface import Constants, Surface
from tests.scaling.surfaces import TRUTH

LAW = Surface('truth', TRUTH)
MUENNIGHOFF = Surface(
    'muennighoff2023',
    Constants(math.exp(0.6254804), math.exp(6.255414), math.exp(7.3049974), 0.3526596, 0.3526596),
)
"""Their constants of C4 (appendix A)."""


def loss(law: Surface, params: float, tokens: float, unique: float) -> float:
    """The paper's equations 5 to 7, written once more."""
    E, A, B, alpha, beta = law.constants
    U_D = min(unique, tokens)
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    U_N = min(params, G * (G * U_D) ** (beta / alpha))
    R_D, R_N = tokens / U_D - 1, params / U_N - 1
    D = U_D + U_D * 15.387756 * (1 - math.exp(-R_D / 15.387756))
    N = U_N + U_N * 5.309743 * (1 - math.exp(-R_N / 5.309743))
    return E + A / N**alpha + B / D**beta


@pytest.mark.parametrize('law', [LAW, MUENNIGHOFF])
@pytest.mark.parametrize('unique', [1e10, 2.5e10, 1e11, 2e11])
def test_against_every_size(law: Surface, unique: float) -> None:
    found = data_limited_optimum(law, 9.3e21, unique)
    assert 6 * found.params * found.tokens == pytest.approx(9.3e21)
    assert found.loss == pytest.approx(loss(law, found.params, found.tokens, unique), rel=1e-12)
    params = found.params * np.exp(np.linspace(-3, 3, 20_001))
    losses = [loss(law, float(n), 9.3e21 / 6 / float(n), unique) for n in params]
    assert found.loss <= min(losses) + 1e-12
    assert params[int(np.argmin(losses))] == pytest.approx(found.params, rel=1e-3)
    assert found.epochs == pytest.approx(found.tokens / unique)


@pytest.mark.parametrize('unique', [1e12, 1e15])
def test_enough_text_is_the_plain_law(unique: float) -> None:
    found, best = data_limited_optimum(LAW, 1e22, unique), LAW.best(1e22)
    assert found.params == pytest.approx(best.params, rel=1e-6)
    assert found.effective_tokens == found.tokens and found.epochs < 1
    assert found.lost == pytest.approx(0, abs=1e-12)


def test_effective_amounts() -> None:
    assert effective(5.0, 10.0, DATA_DECAY) == 5.0
    assert effective(10.0, 10.0, DATA_DECAY) == 10.0
    # Four epochs are nearly as good as new text; no number is worth more than 1 + R* of them.
    assert effective(40.0, 10.0, DATA_DECAY) == pytest.approx(40, rel=0.08)
    assert effective(1e9, 10.0, DATA_DECAY) == pytest.approx(10 * (1 + DATA_DECAY))
    assert effective(1e9, 10.0, PARAMS_DECAY) == pytest.approx(10 * (1 + PARAMS_DECAY))


def test_what_the_text_can_feed() -> None:
    params, tokens = effective_size(LAW, 1e6, 1e10, 1e11)
    assert (params, tokens) == (1e6, 1e10)
    params, tokens = effective_size(LAW, 1e12, 1e12, 1e9)
    assert params < 1e12 and tokens < 1e12
    # Of more text than is read only what is read feeds parameters.
    assert effective_size(LAW, 1e12, 1e10, 1e13) == effective_size(LAW, 1e12, 1e10, 1e10)


def test_the_papers_example() -> None:
    # Figure 1: 25e9 unique tokens. As if all were new: 8.67e9 parameters, 178e9 tokens. Their grid
    # puts the best at 6.34e9 and 242e9 (9.7 epochs); the law is flat there.
    best = MUENNIGHOFF.best(6 * 8.67e9 * 178e9)
    assert best.params == pytest.approx(8.67e9, rel=0.03)
    flops = 6 * 6.34e9 * 242e9
    found = data_limited_optimum(MUENNIGHOFF, flops, 25e9)
    assert found.params == pytest.approx(6.34e9, rel=0.08)
    assert found.epochs == pytest.approx(9.7, rel=0.08)
    assert found.loss < loss(MUENNIGHOFF, 6.34e9, 242e9, 25e9) < found.loss + 2e-4
    assert found.loss < loss(MUENNIGHOFF, 8.67e9, flops / 6 / 8.67e9, 25e9)


@pytest.mark.parametrize('wrong', [0.0, -1.0, math.nan, math.inf])
def test_no_such_text(wrong: float) -> None:
    with pytest.raises(UserError, match='unique_tokens='):
        data_limited_optimum(LAW, 1e22, wrong)
