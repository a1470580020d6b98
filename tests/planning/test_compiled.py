"""The plan's bytes against those of the compiled step, on one CPU device, in fp32.

XLA:CPU computes bf16 in fp32 and ignores rematerialisation of unrolled layers, so neither can be
compared here.
"""

from typing import Any

import jax
import optax
import pytest

from lm import registry
from lm.models.functional import functional
from lm.objectives._objective import weighted_cross_entropy
from lm.planning.activations import Work
from lm.planning.axes import Axes
from lm.planning.memory import step_memory
from lm.planning.parameters import model_shape
from lm.planning.recipes import RECIPES
from lm.precision.policy import POLICIES
from tests.planning.test_activations import (
    DECODER_LENGTH,
    LENGTH,
    ROWS,
    a_batch,
    model_config,
)


@pytest.mark.parametrize(
    ('name', 'remat'),
    [
        *((name, remat) for name in registry.names('models') for remat in ('none', 'full')),
        ('llama', 'dots'),
    ],
)
def test_peak(name: str, remat: str) -> None:
    config = model_config(name, remat)
    model = functional(config, POLICIES['fp32'])
    optimizer = optax.adamw(1e-3)

    def step(params: Any, moments: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            return weighted_cross_entropy(model.apply(params, batch), batch).loss

        gradients = jax.grad(loss)(params)
        shrink = 1 / optax.tree.norm(gradients)
        gradients = jax.tree.map(lambda g: g * shrink, gradients)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments

    moments = jax.eval_shape(optimizer.init, model.shapes)
    batch = a_batch(model)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(model.shapes, moments, batch).compile()
    found = compiled.memory_analysis()
    peak = found.argument_size_in_bytes + found.output_size_in_bytes
    peak += found.temp_size_in_bytes - found.alias_size_in_bytes
    lengths = {model.family: LENGTH}
    if model.family == 'encoder_decoder':
        lengths = {'encoder': LENGTH, 'decoder': DECODER_LENGTH}
    work = Work(ROWS, lengths, Axes(1, 1), 4)
    shape, recipe = model_shape(config), RECIPES['fp32_adam']
    planned = step_memory(shape, work, recipe, 'ddp', remat, 1)
    print(f'{name} {remat}: {planned.total / peak:.2f}')
    assert planned.total == pytest.approx(peak, rel=0.3)
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((model.shapes, moments)))
    assert planned.state == pytest.approx(state, abs=4)  # optax counts its steps
