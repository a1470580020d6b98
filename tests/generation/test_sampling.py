"""From logits to a token: which ones may come, and how often they do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.errors import UserError
from lm.generation.sampling import Sampling, choose, restricted

LOGITS = np.array([1.5, -0.3, 2.0, -np.inf, 0.4, 1.9, -2.0], np.float32)


def in_numpy(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probabilities, by sorting and adding up one by one."""
    x = logits.astype(np.float64) / sampling.temperature
    order = sorted(range(len(x)), key=lambda i: (-x[i], i))[: sampling.top_k]
    p = np.zeros(len(x))
    p[order] = np.exp(x[order] - x.max())
    p /= p.sum()
    kept, held = [], 0.0
    for i in order:
        kept.append(i)
        held += p[i]
        if held >= sampling.top_p:
            break
    only = np.zeros(len(x))
    only[kept] = p[kept]
    return only / only.sum()


@pytest.mark.parametrize('temperature', [0.3, 1.0, 2.5])
@pytest.mark.parametrize('top_k', [None, 1, 3, 6, 100])
@pytest.mark.parametrize('top_p', [1.0, 0.95, 0.6, 0.2, 1e-6])
def test_probabilities(temperature: float, top_k: int | None, top_p: float) -> None:
    sampling = Sampling(temperature, top_k, top_p)
    rows = np.stack([LOGITS, LOGITS[::-1], np.where(np.arange(7) == 4, 0, LOGITS)])
    got = jax.nn.softmax(restricted(jnp.asarray(rows), sampling.draw()))
    for row, shares in zip(rows, got, strict=True):
        np.testing.assert_allclose(shares, in_numpy(row, sampling), rtol=1e-5, atol=1e-7)


def test_exactly_k_of_equally_likely_tokens_remain() -> None:
    equal = jnp.zeros((1, 9))
    assert np.isfinite(restricted(equal, Sampling(top_k=4).draw())).sum() == 4
    # The smallest set that holds 0.5 of nine equal shares has five of them.
    assert np.isfinite(restricted(equal, Sampling(top_p=0.5).draw())).sum() == 5


@pytest.mark.parametrize('temperature', [1e-40, 1e-6])
def test_a_temperature_close_to_zero_is_greedy(temperature: float) -> None:
    keys = jax.random.split(jax.random.key(0), 20)
    rows = jnp.tile(LOGITS + 30, (20, 1))
    assert (choose(rows, keys, Sampling(temperature).draw()) == 2).all()


def test_greedy_is_the_likeliest() -> None:
    rows = jnp.stack([LOGITS, LOGITS[::-1]])
    keys = jax.random.split(jax.random.key(0), 2)
    assert choose(rows, keys, Sampling(0.0).draw()).tolist() == [2, 4]


def test_draws_follow_the_probabilities() -> None:
    sampling, draws = Sampling(0.8, top_k=5, top_p=0.9), 20_000
    keys = jax.random.split(jax.random.key(1), draws)
    chosen = choose(jnp.tile(LOGITS, (draws, 1)), keys, sampling.draw())
    expected = in_numpy(LOGITS, sampling) * draws
    counts = np.bincount(chosen, minlength=len(LOGITS))
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    square = ((counts - expected) ** 2)[possible] / expected[possible]
    assert possible.sum() == 3
    assert square.sum() < 13.8  # p = 0.001 with 2 degrees of freedom


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'temperature': -1.0}, 'temperature=-1.0: must be at least 0'),
        ({'temperature': math.nan}, 'temperature=nan: must be'),
        ({'temperature': math.inf}, 'temperature=inf: must be'),
        ({'top_k': 0}, 'top_k=0: must be at least 1'),
        ({'top_p': 0.0}, 'top_p=0.0: must be in (0, 1]'),
        ({'top_p': 1.5}, 'top_p=1.5: must be'),
        ({'top_p': math.nan}, 'top_p=nan: must be'),
    ],
)
def test_refusals(settings: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        Sampling(**settings)
    assert words in str(error.value)
