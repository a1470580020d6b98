"""The numerical contracts of the step on emulated devices."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from tests.training.numerics import (
    OPTIMIZERS,
    SGD,
    TOLERANCE,
    assert_close,
    batches,
    initial,
    program,
    steps,
)  # fmt: skip

STEPS = 4
PLAIN = [('gpt2', 'sgd_by_leaf'), ('gpt2', 'adamw'), ('bert', 'sgd_by_leaf'), ('t5', 'sgd_by_leaf')]
LAID_OUT = [  # family, optimizer, devices, microbatches
    ('gpt2', 'sgd_by_leaf', 8, 1),
    ('gpt2', 'sgd_by_leaf', 1, 4),
    ('gpt2', 'adamw', 8, 2),
    ('bert', 'sgd_by_leaf', 8, 2),
    ('t5', 'sgd_by_leaf', 8, 2),
]


@functools.cache
def plain(family: str, optimizer: str) -> Any:
    """One device, no microbatches."""
    made = program(family, 1, **OPTIMIZERS[optimizer])
    return steps(made, batches(made, STEPS))


@pytest.mark.parametrize(('family', 'optimizer', 'devices', 'microbatches'), LAID_OUT)
def test_devices_and_microbatches_change_nothing(
    family: str, optimizer: str, devices: int, microbatches: int
) -> None:
    made = program(family, devices, microbatches, **OPTIMIZERS[optimizer])
    result = steps(made, batches(made, STEPS))
    assert_close(plain(family, optimizer), result)


@pytest.mark.parametrize(('family', 'optimizer'), PLAIN)
def test_the_steps_compared_would_show_a_wrong_gradient(family: str, optimizer: str) -> None:
    before = initial(family, optimizer).params
    after = plain(family, optimizer)[0].params
    for path, array in before.items():
        if not path.endswith('key_bias'):
            # One that is wrong by a tenth.
            moved = np.abs(after[path] - array).max()
            assert moved / 10 > TOLERANCE * np.abs(after[path]).max(), path


def test_metrics_are_those_of_the_whole_batch_before_the_update() -> None:
    made = program('gpt2', 1, 4, **SGD)
    [batch] = batches(made, 1)
    params = initial('gpt2', 'sgd').params

    def loss(params: Any) -> Any:
        sums = made.objective.loss(made.functional.apply(params, batch), batch)
        return sums.loss / sums.weight

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    state, [metrics] = steps(made, [batch])
    assert batch.loss_weights is not None
    assert metrics.targets == np.asarray(batch.loss_weights).sum()
    np.testing.assert_allclose(metrics.loss, value, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradient.values()))
    np.testing.assert_allclose(metrics.grad_norm, norm, rtol=1e-5)
    np.testing.assert_allclose(metrics.learning_rate, 0.3, rtol=1e-6)
    for path, before in params.items():
        if path.endswith('key_bias'):
            continue
        wanted = before - 0.3 * np.asarray(gradient[path])
        if made.config.optim.weight_decay and not path.endswith(('bias', 'scale')):
            wanted = wanted - 0.3 * made.config.optim.weight_decay * before
        np.testing.assert_allclose(
            state.params[path], wanted, atol=2e-5 * np.abs(wanted).max(), err_msg=path
        )


def test_clipping_scales_the_whole_gradient() -> None:
    clip = {**SGD, 'optim.clip_norm': 0.01, 'optim.weight_decay': 0.0}
    made = program('gpt2', 1, **clip)
    before = initial('gpt2', 'sgd').params
    state, [metrics] = steps(made, batches(made, 1))
    moved = np.sqrt(sum(np.sum(np.square(state.params[p] - x)) for p, x in before.items()))
    assert metrics.grad_norm > 0.1, 'told before clipping'
    np.testing.assert_allclose(moved, 0.3 * 0.01, rtol=1e-3)


def test_dropout_is_a_function_of_seed_and_step_on_any_mesh() -> None:
    dropping = {**SGD, 'model.dropout': 0.3}
    made, alone = program('gpt2', 8, **dropping), program('gpt2', 1, **dropping)
    data = batches(made, 1) * 2
    first, told = steps(made, data)
    again, told_again = steps(made, data)
    assert told == told_again
    for path, array in first.params.items():
        np.testing.assert_array_equal(array, again.params[path])
    assert_close((first, told), steps(alone, data))
    without = plain('gpt2', 'sgd')[1][0]
    assert abs(told[0].loss - without.loss) > 1e-4, 'dropout is on'


def test_dropout_differs_from_step_to_step() -> None:
    still = {**SGD, 'model.dropout': 0.3, 'optim.peak_lr': 1e-30, 'optim.weight_decay': 0.0}
    made = program('gpt2', 1, 2, **still)
    one, two = steps(made, batches(made, 1) * 2)[1]
    assert one.loss != two.loss


def test_a_batch_without_any_target_makes_no_nan() -> None:
    made = program('gpt2', 1, 4, **SGD)
    [batch] = batches(made, 1)
    assert batch.loss_weights is not None
    empty = batch._replace(loss_weights=np.zeros_like(batch.loss_weights))
    state, [metrics] = steps(made, [empty])
    assert (metrics.loss, metrics.grad_norm, metrics.targets) == (0, 0, 0)
    for path, array in initial('gpt2', 'sgd').params.items():
        # Only the decay of the matrices is left.
        assert np.abs(state.params[path] - array).max() <= 0.031 * np.abs(array).max()
