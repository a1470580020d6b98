"""Stochastic rounding: between neighbours, right in the mean, and what no chance changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lm.precision.rounding import _noise, stochastically_rounded
from lm.training.update import Taking, taken

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


def test_places_and_keys_draw_apart_and_evenly() -> None:
    size = 1 << 18
    one, other = (np.asarray(_noise(jax.random.key(k), (512, 512)), np.float64) for k in (0, 1))
    drawn = one.ravel()
    assert drawn.min() >= 0 and drawn.max() < 2**16
    counts = np.bincount((drawn // 256).astype(int), minlength=256)
    # Chi-square of 255 degrees of freedom: mean 255, deviation 22.6.
    assert abs(((counts - size / 256) ** 2 / (size / 256)).sum() - 255) < 5 * 22.6
    centred = drawn - drawn.mean()
    for related in (np.roll(centred, 1), np.roll(centred, 512), other.ravel() - other.mean()):
        correlation = (centred @ related) / np.sqrt((centred @ centred) * (related @ related))
        assert abs(correlation) < 5 / np.sqrt(size)


def test_part_of_an_array_is_rounded_as_all_of_it() -> None:
    """As on a mesh, where a device rounds its part."""
    mesh = jax.make_mesh((8,), ('x',), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, 'x'))
    x = jax.random.normal(jax.random.key(3), (16, 64))
    key = jax.random.key(0)
    whole = jax.jit(stochastically_rounded)(x, key)
    parts = jax.jit(stochastically_rounded, out_shardings=split)(jax.device_put(x, split), key)
    np.testing.assert_array_equal(np.asarray(whole, np.float32), np.asarray(parts, np.float32))


def test_an_update_by_chance_takes_no_more_memory_than_to_nearest() -> None:
    optimizer, sizes = optax.adamw(1e-3), (512, 1024)
    params = {f'w{i}': jax.ShapeDtypeStruct(sizes, jnp.bfloat16) for i in range(4)}
    state = jax.eval_shape(optimizer.init, params)

    def temporaries(key: Any) -> int:
        def update(g: Any, s: Any, p: Any, key: Any) -> Any:
            return taken(optimizer, g, s, p, Taking(key=key))

        lowered = jax.jit(update, donate_argnums=(1, 2)).lower(params, state, params, key)
        return int(lowered.compile().memory_analysis().temp_size_in_bytes)

    entries = 4 * 512 * 1024
    by_chance = temporaries(jax.eval_shape(lambda: jax.random.key(0)))
    assert by_chance <= temporaries(None) + entries
