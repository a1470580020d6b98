"""How a loss scale moves, and that it cancels."""

from typing import Any

import jax.numpy as jnp
import pytest

from lm import UserError
from lm.config import PrecisionConfig
from lm.precision.loss_scale import LARGEST, SMALLEST, LossScale, Scaling, scaling_of
from lm.precision.policy import POLICIES


def numbers(kept: LossScale) -> tuple[float, int, int]:
    return float(kept.scale), int(kept.steps), int(kept.skipped)


def test_it_halves_at_an_overflow_and_doubles_after_so_many_steps_without() -> None:
    scaling = Scaling(1024.0, growth_steps=3, targets=100)
    kept, seen = scaling.start(), []
    for finite in (True, True, True, True, False, True, True, False, False, True, True, True):
        kept = scaling.after(kept, jnp.asarray(finite))
        seen.append(numbers(kept))
    assert seen == [
        (1024, 1, 0), (1024, 2, 0), (2048, 0, 0), (2048, 1, 0), (1024, 0, 1), (1024, 1, 1),
        (1024, 2, 1), (512, 0, 2), (256, 0, 3), (256, 1, 3), (256, 2, 3), (512, 0, 3),
    ]  # fmt: skip


def test_a_fixed_scale_stays() -> None:
    scaling = Scaling(8.0, growth_steps=None, targets=7)
    assert numbers(scaling.after(scaling.start(), jnp.asarray(False))) == (8, 0, 0)


@pytest.mark.parametrize(('scale', 'finite', 'after'), [(SMALLEST, False, SMALLEST),
                                                        (LARGEST, True, LARGEST)])  # fmt: skip
def test_it_stays_within_its_ends(scale: float, finite: bool, after: float) -> None:
    kept = LossScale(jnp.float32(scale), jnp.int32(0), jnp.int32(0))
    assert float(Scaling(1.0, 1, 1).after(kept, jnp.asarray(finite)).scale) == after


@pytest.mark.parametrize(('targets', 'share'), [(1, 1), (1024, 1024), (1000, 1024), (1500, 2048)])
def test_the_sum_of_losses_is_multiplied_by_scale_over_targets(targets: int, share: int) -> None:
    scaling = Scaling(2.0**16, 1000, targets)
    assert float(scaling.factor(scaling.start())) == 2.0**16 / share


def test_which_policies_scale() -> None:
    auto = PrecisionConfig()
    scaled = {name for name, policy in POLICIES.items() if scaling_of(auto, policy, 8)}
    assert scaled == {'fp16_mixed'}
    found = scaling_of(PrecisionConfig(loss_scaling='fixed'), POLICIES['fp32'], 8)
    assert found == Scaling(2.0**16, None, 8)
    found = scaling_of(PrecisionConfig(loss_scale=4.0), POLICIES['fp16_mixed'], 8)
    assert found == Scaling(4.0, 1000, 8)
    found = scaling_of(PrecisionConfig(loss_scaling='dynamic'), POLICIES['bf16_mixed'], 8)
    assert found == Scaling(2.0**16, 1000, 8)


@pytest.mark.parametrize(
    ('given', 'line'),
    [
        ({'loss_scale': 4.0}, 'precision.loss_scale=4: nothing scales the loss under'),
        (
            {'loss_scale_growth_steps': 5},
            'precision.loss_scale_growth_steps=5: no scale grows here',
        ),
        (
            {'loss_scale_growth_steps': 5, 'loss_scaling': 'fixed'},
            'precision.loss_scale_growth_steps=5: no scale grows here',
        ),
    ],
)
def test_what_nothing_reads_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=f'^{line}'):
        scaling_of(PrecisionConfig(**given), POLICIES['bf16_mixed'], 8)


@pytest.mark.parametrize(
    'scale', [3.0, 0.0, -2.0, 65535.0, 2.0**-25, 2.0**65, float('nan'), float('inf')]
)
def test_a_scale_is_a_power_of_two(scale: float) -> None:
    with pytest.raises(UserError, match=r'^precision.loss_scale=\S+: must be a power of two'):
        PrecisionConfig(loss_scale=scale)
