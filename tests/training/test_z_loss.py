"""The z-loss in a step: what it moves, what it leaves as told, and that meshes agree on it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lm
from lm import UserError
from tests.training.numerics import SGD, TOLERANCE, assert_close, batches, initial, program, steps

WEIGHT = 0.05
Z = {**SGD, 'train.z_loss': WEIGHT}


@pytest.mark.parametrize('family', ['gpt2', 'bert'])
def test_a_step_descends_the_loss_and_the_z_loss(family: str) -> None:
    """BERT's logits are those of the asked places alone; the z-loss is of the same."""
    made = program(family, 1, **Z)
    [batch] = batches(made, 1)
    params = initial(family, 'sgd').params

    def parts(params: Any) -> tuple[jax.Array, jax.Array]:
        logits_BTV = made.functional.apply(params, batch)
        sums = made.objective.loss(logits_BTV, batch)
        log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
        return sums.loss / sums.weight, jnp.sum(batch.loss_weights * log_z_BT**2) / sums.weight

    plain = jax.jit(parts)(params)[0]
    gradient = jax.jit(jax.grad(lambda p: parts(p)[0] + WEIGHT * parts(p)[1]))(params)
    state, [metrics] = steps(made, [batch])
    np.testing.assert_allclose(metrics.loss, plain, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradient.values()))
    np.testing.assert_allclose(metrics.grad_norm, norm, rtol=1e-5)
    without, _ = steps(program(family, 1, **SGD), [batch])
    path = next(p for p in params if p.endswith('embedding/tokens'))
    moved = state.params[path] - without.params[path]
    assert np.abs(moved).max() > 100 * TOLERANCE * np.abs(state.params[path]).max()


@pytest.mark.parametrize(
    'mesh', [{'mesh.strategy': 'zero3'}, {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'}]
)
def test_meshes_and_microbatches_change_nothing(mesh: dict[str, Any]) -> None:
    one = program('gpt2', 1, **Z)
    eight = program('gpt2', 8, 2, **Z, **mesh)
    data = batches(one, 2)
    assert_close(steps(one, data), steps(eight, data))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r'^train.z_loss=-0.1: must not be negative$'):
        lm.load_config('gpt2_124m', **{'train.z_loss': -0.1})
