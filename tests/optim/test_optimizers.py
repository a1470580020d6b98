"""Optimizers: a contract for every one by name, AdamW and SGD against float64 NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lm import registry
from lm.config import OptimConfig
from lm.errors import UserError
from lm.optim._decay import decays
from lm.shapes import Dims, Params

DIMS = {'w': 'DF', 'b': 'F', 'layers/w': 'LDF', 'layers/b': 'LF', 'layers/q': 'LDHK'}
SHAPES = {
    'w': (3, 4),
    'b': (4,),
    'layers/w': (2, 3, 4),
    'layers/b': (2, 4),
    'layers/q': (2, 3, 2, 2),
}
DECAYED = {'w', 'layers/w', 'layers/q'}

every_optimizer = pytest.mark.parametrize('name', registry.names('optimizers'))


def built(
    name: str, schedule: optax.Schedule, dims: Dims = DIMS, **changes: Any
) -> optax.GradientTransformation:
    member = registry.lookup('optimizers', name, 'optim.name')
    options = member.Options(**changes.pop('options', {}))
    return member.build(OptimConfig(name=name, options=options, **changes), schedule, dims)


def drawn(seed: int, dtype: str = 'float32') -> Params:
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.standard_normal(shape), dtype) for k, shape in SHAPES.items()}


def rate(step: Any) -> Any:
    return 0.01 * (step + 1)


def run(optimizer: optax.GradientTransformation, params: Params, steps: int) -> Params:
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(steps):
        updates, state = update(drawn(100 + step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_near(got: Params, want: dict[str, np.ndarray]) -> None:
    for path in want:
        np.testing.assert_allclose(got[path], want[path], rtol=2e-5, atol=2e-6, err_msg=path)


@every_optimizer
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_step_keeps_shapes_and_dtypes(name: str, dtype: str) -> None:
    optimizer = built(name, rate)
    params = drawn(0, dtype)
    state = optimizer.init(params)
    updates, after = jax.jit(optimizer.update)(drawn(1, dtype), state, params)
    shape_of = jax.tree_util.Partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert shape_of(after) == shape_of(state)
    assert shape_of(optax.apply_updates(params, updates)) == shape_of(params)
    floating = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert set(floating) <= {jnp.dtype(dtype), jnp.dtype('float32')}


@every_optimizer
def test_the_schedule_is_followed(name: str) -> None:
    """A step at twice the rate goes twice as far, and at rate 0 nowhere."""
    params = drawn(0)
    want = run(built(name, lambda step: 0.01), params, 1)
    twice = run(built(name, lambda step: 0.02), params, 1)
    moved = {k: 2 * (np.asarray(want[k], np.float64) - params[k]) + params[k] for k in params}
    assert_near(twice, moved)
    still = run(built(name, lambda step: jnp.where(step < 3, 0.0, 1.0)), params, 3)
    jax.tree.map(np.testing.assert_array_equal, still, params)
    assert not np.array_equal(
        run(built(name, lambda step: 0.01 * step), params, 2)['w'], params['w']
    )


@every_optimizer
def test_only_matrices_decay(name: str) -> None:
    """With zero gradients a step multiplies matrices by 1 - rate * decay, and leaves the rest."""
    params = drawn(0)
    optimizer = built(name, lambda step: 0.1, weight_decay=0.5)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    for path, after in optax.apply_updates(params, updates).items():
        factor = 0.95 if path in DECAYED else 1.0
        np.testing.assert_allclose(after, factor * params[path], rtol=1e-6, err_msg=path)


@every_optimizer
def test_stacked_layers_are_updated_as_unrolled_ones(name: str) -> None:
    params = drawn(0)
    stacked = run(built(name, rate, weight_decay=0.3), params, 3)

    def unrolled(tree: Params) -> Params:
        return {f'{i}/{k}': x[i] for k, x in tree.items() if k.startswith('layers') for i in (0, 1)}

    dims = {k: DIMS[k.partition('/')[2]][1:] for k in unrolled(params)}
    optimizer = built(name, rate, dims, weight_decay=0.3)
    alone = unrolled(params)
    state = optimizer.init(alone)
    for step in range(3):
        updates, state = optimizer.update(unrolled(drawn(100 + step)), state, alone)
        alone = optax.apply_updates(alone, updates)
    assert_near(unrolled(stacked), {k: np.asarray(x) for k, x in alone.items()})


def test_what_decays() -> None:
    dims = {
        'VD': True, 'DV': True, 'PD': True, 'DF': True, 'LDF': True, 'LFD': True, 'LDHK': True,
        'LHKD': True, 'LDGK': True, 'DD': True, 'D': False, 'LD': False, 'F': False, 'LF': False,
        'LHK': False, 'LGK': False, 'V': False, 'RH': False,
    }  # fmt: skip
    assert decays({letters: letters for letters in dims}) == dims


def test_adamw_is_float64_adamw() -> None:
    """Loshchilov & Hutter 2019, algorithm 2, with its bias correction, over 20 steps."""
    b1, b2, eps, decay, steps = 0.8, 0.9, 1e-6, 0.3, 20
    want = {k: np.asarray(x, np.float64) for k, x in drawn(0).items()}
    mean = {k: np.zeros_like(x) for k, x in want.items()}
    square = {k: np.zeros_like(x) for k, x in want.items()}
    for t in range(1, steps + 1):
        gradients = drawn(100 + t - 1)
        for k in want:
            g = np.asarray(gradients[k], np.float64)
            mean[k] = b1 * mean[k] + (1 - b1) * g
            square[k] = b2 * square[k] + (1 - b2) * g * g
            step = mean[k] / (1 - b1**t) / (np.sqrt(square[k] / (1 - b2**t)) + eps)
            want[k] = want[k] - rate(t - 1) * (step + decay * (k in DECAYED) * want[k])
    optimizer = built('adamw', rate, eps=eps, weight_decay=decay, options={'b1': b1, 'b2': b2})
    assert_near(run(optimizer, drawn(0), steps), want)


@pytest.mark.parametrize('momentum', [None, 0.0, 0.9])
def test_sgd_is_float64_sgd(momentum: float | None) -> None:
    decay, steps = 0.2, 10
    want = {k: np.asarray(x, np.float64) for k, x in drawn(0).items()}
    velocity = {k: np.zeros_like(x) for k, x in want.items()}
    for t in range(steps):
        gradients = drawn(100 + t)
        for k in want:
            velocity[k] = (momentum or 0) * velocity[k] + np.asarray(gradients[k], np.float64)
            want[k] = want[k] - rate(t) * (velocity[k] + decay * (k in DECAYED) * want[k])
    optimizer = built('sgd', rate, weight_decay=decay, options={'momentum': momentum})
    assert_near(run(optimizer, drawn(0), steps), want)
    kept = sum(x.size for x in jax.tree.leaves(optimizer.init(drawn(0))))
    weights = sum(x.size for x in drawn(0).values())
    assert kept == (0 if momentum is None else weights) + 1


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('adamw', {'b1': 1.0}, 'optim.options.b1=1.0: must be in [0, 1)'),
        ('adamw', {'b2': -0.1}, 'optim.options.b2=-0.1: must be in [0, 1)'),
        ('sgd', {'momentum': 1.5}, 'optim.options.momentum=1.5: must be in [0, 1), or none'),
    ],
)
def test_bad_options(name: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        built(name, rate, options=options)
    assert str(error.value) == words
