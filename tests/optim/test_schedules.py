"""Schedules: their closed forms at every step, and up to where they know no end."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm import registry
from lm.config import OptimConfig
from lm.errors import UserError

PEAK = 0.4


def member(name: str) -> Any:
    return registry.lookup('schedules', name, 'optim.schedule')


def config(name: str, **changes: Any) -> OptimConfig:
    return OptimConfig(schedule=name, peak_lr=PEAK, **changes)


def rates(name: str, steps: int, **changes: Any) -> np.ndarray:
    schedule = member(name).build(config(name, **changes), steps)
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(steps)))


def closed_form(name: str, n: int, steps: int, warmup: int, decay: int, final: float) -> float:
    if name == 'wsd' and n >= steps - decay:
        return PEAK * (1 - (1 - final) * (n - (steps - decay) + 1) / decay)
    if n < warmup:
        return PEAK * (n + 1) / (warmup + 1)
    if name == 'cosine':
        done = (n - warmup) / max(steps - 1 - warmup, 1)
        return PEAK * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
    if name == 'linear':
        done = (n - warmup) / max(steps - 1 - warmup, 1)
        return PEAK * (1 - (1 - final) * done)
    if name == 'inverse_sqrt':
        # Vaswani et al. 2017, eq. 3, for the width at which its peak is PEAK.
        step, width = n + 1, 1 / (PEAK**2 * (warmup + 1))
        return width**-0.5 * min(step**-0.5, step * (warmup + 1) ** -1.5)
    return PEAK


@pytest.mark.parametrize('name', ['constant', 'cosine', 'inverse_sqrt', 'linear', 'wsd'])
@pytest.mark.parametrize('warmup', [0, 1, 7])
@pytest.mark.parametrize('decay', [1, 2, 12])
@pytest.mark.parametrize('final', [0.0, 0.1, 1.0])
def test_every_step(name: str, warmup: int, decay: int, final: float) -> None:
    steps = 30
    got = rates(name, steps, warmup_steps=warmup, decay_steps=decay, final_lr_fraction=final)
    want = [closed_form(name, n, steps, warmup, decay, final) for n in range(steps)]
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-7)
    assert got[0] > 0
    assert got.max() == pytest.approx(PEAK)
    if name not in ('constant', 'inverse_sqrt'):
        assert got[-1] == pytest.approx(PEAK * final, abs=1e-7)


@pytest.mark.parametrize('name', registry.names('schedules'))
def test_a_run_may_be_extended_from_the_end_of_its_plateau(name: str) -> None:
    settings = {'warmup_steps': 5, 'decay_steps': 6}
    short, long = rates(name, 20, **settings), rates(name, 33, **settings)
    end = member(name).plateau_end(config(name, **settings), 20)
    if end is None:
        assert not np.array_equal(short[6:], long[6:20])
        return
    np.testing.assert_array_equal(short[:end], long[:end])
    assert end == 20 or short[end] < long[end]


def test_wsd_decays_over_a_fifth_unless_told() -> None:
    got = rates('wsd', 50, warmup_steps=3)
    assert np.sum(got[3:] < PEAK * 0.999) == 10
    assert member('wsd').plateau_end(config('wsd'), 50) == 40


@pytest.mark.parametrize(
    ('name', 'settings', 'words'),
    [
        ('linear', {'warmup_steps': 30}, 'optim.warmup_steps=30: must be below train.steps=30'),
        ('cosine', {'warmup_steps': 30}, 'optim.warmup_steps=30: must be below train.steps=30'),
        ('wsd', {'warmup_steps': 25}, 'optim.warmup_steps=25: with a decay of 6 steps'),
        ('wsd', {'warmup_steps': 1, 'decay_steps': 30}, 'optim.warmup_steps=1: with a decay of 30'),
    ],
)
def test_refusals(name: str, settings: dict[str, int], words: str) -> None:
    with pytest.raises(UserError) as error:
        rates(name, 30, **settings)
    assert words in str(error.value)
