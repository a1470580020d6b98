"""Stochastic rounding: between neighbours, right in the mean, and what no chance changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.precision.rounding import stochastically_rounded

DRAWS = 200_000


def neighbours(x: float) -> tuple[float, float]:
    """The bf16 numbers round `x`, by its bits: toward zero and away from it."""
    bits = np.float32(x).view(np.uint32)
    inner = np.uint32(bits & 0xFFFF0000)
    return float(inner.view(np.float32)), float(np.uint32(inner + 0x10000).view(np.float32))


@pytest.mark.parametrize('x', [1.001, -1.001, 0.3, 3.14159265, -2.7e-30, 1.2e30, 1.9999])
def test_the_mean_is_the_number(x: float) -> None:
    exact = float(np.float32(x))
    drawn = stochastically_rounded(jnp.full(DRAWS, x, jnp.float32), jax.random.key(0))
    found = np.asarray(drawn, np.float64)
    inner, outer = neighbours(x)
    assert {*np.unique(found).tolist()} == {inner, outer}
    share = (exact - inner) / (outer - inner)
    outward = np.mean(found == outer)
    # Five standard deviations of a binomial share: one such test in two million fails by chance.
    assert abs(outward - share) < 5 * np.sqrt(share * (1 - share) / DRAWS)
    assert abs(found.mean() - exact) < 5 * abs(outer - inner) / 2 / np.sqrt(DRAWS)


def test_what_bf16_has_stays_and_so_does_what_is_no_number() -> None:
    has = [0.0, -0.0, 1.0, -1.5, 2.0**-126, 3.3895e38, np.inf, -np.inf, np.nan]
    x = jnp.asarray(has, jnp.bfloat16).astype(jnp.float32)
    for seed in range(50):
        made = stochastically_rounded(x, jax.random.key(seed))
        assert made.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(made, np.float32), np.asarray(x))


def test_updates_too_small_for_bf16_add_up_in_the_mean() -> None:
    """1 + 1000 x 0.0005: rounded to nearest none moves it, a bf16's step at 1 being 0.0078."""
    steps, update = 1000, 5e-4
    x = jnp.ones(4096, jnp.bfloat16)
    nearest = x
    for step in range(steps):
        x = stochastically_rounded(x.astype(jnp.float32) + update, jax.random.key(step))
        nearest = (nearest.astype(jnp.float32) + update).astype(jnp.bfloat16)
    assert float(nearest[0]) == 1.0
    # A step up is 2^-7, so the variance of 1000 draws is at most 1000 x update x 2^-7.
    deviation = np.sqrt(steps * update * 2**-7)
    found = np.asarray(x, np.float64)
    assert abs(found.mean() - (1 + steps * update)) < 5 * deviation / np.sqrt(found.size)
