"""Optimizers: a contract for every one by name, each against its paper in float64 NumPy."""

import math
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
from lm.optim.optimizers import adafactor, muon
from lm.shapes import Dims, Params, space_axes

DIMS = {
    'w': 'DF', 'b': 'F', 'tokens': 'VD', 'layers/w': 'LDF', 'layers/b': 'LF', 'layers/q': 'LDHK',
    'layers/o': 'LHKD',
}  # fmt: skip
SIZES = {'L': 2, 'D': 3, 'F': 4, 'H': 2, 'K': 2, 'V': 5}
SHAPES = {path: tuple(SIZES[letter] for letter in letters) for path, letters in DIMS.items()}
MATRICES = {'w', 'layers/w', 'layers/q', 'layers/o'}
DECAYED = {*MATRICES, 'tokens'}

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


@every_optimizer
def test_what_is_kept_of_each_parameter_has_the_letters_told(name: str) -> None:
    member = registry.lookup('optimizers', name, 'optim.name')
    state = jax.eval_shape(built(name, rate).init, drawn(0))
    for path, letters in DIMS.items():
        shapes = [
            leaf.shape
            for keys, leaf in jax.tree_util.tree_leaves_with_path(state)
            if path in [getattr(key, 'key', None) for key in keys]
        ]
        told = member.kept(member.Options(), letters)
        assert shapes == [tuple(SIZES[letter] for letter in kept) for kept in told], path


def test_the_spaces_of_a_parameter() -> None:
    axes = {
        'LDF': ((1,), (2,)), 'DHK': ((0,), (1, 2)), 'LHKD': ((1, 2), (3,)), 'LDGK': ((1,), (2, 3)),
        'DD': ((0,), (1,)), 'LHK': ((1, 2),), 'LD': ((1,),), 'RH': ((0,), (1,)),
        'LDQD': ((1,), (3,)), 'LQD': ((2,),),
    }  # fmt: skip
    assert {letters: space_axes(letters) for letters in axes} == axes


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


def layers(path: str, x: Any) -> np.ndarray:
    """The layers of a parameter as float64 matrices or vectors, one if it is not stacked."""
    own = np.asarray(x, np.float64)[None] if DIMS[path][0] != 'L' else np.asarray(x, np.float64)
    spaces = space_axes(DIMS[path].removeprefix('L'))
    return own.reshape(len(own), *(math.prod(own.shape[1 + i] for i in axes) for axes in spaces))


def test_lion_is_float64_lion() -> None:
    """Chen et al. 2023, algorithm 2."""
    b1, b2, decay, steps = 0.7, 0.9, 0.3, 12
    want = {k: np.asarray(x, np.float64) for k, x in drawn(0).items()}
    momentum = {k: np.zeros_like(x) for k, x in want.items()}
    for t in range(steps):
        gradients = drawn(100 + t)
        for k in want:
            g = np.asarray(gradients[k], np.float64)
            update = np.sign(b1 * momentum[k] + (1 - b1) * g)
            momentum[k] = b2 * momentum[k] + (1 - b2) * g
            want[k] = want[k] - rate(t) * (update + decay * (k in DECAYED) * want[k])
    optimizer = built('lion', rate, weight_decay=decay, options={'b1': b1, 'b2': b2})
    assert_near(run(optimizer, drawn(0), steps), want)


class PaperAdafactor:
    """One matrix or vector: Shazeer & Stern 2018, algorithms 4 and 5, with sums as they have them.

    `relative` and the clipping as in algorithm 4 (its alpha_t, and U hat).
    """

    def __init__(self, shape: tuple[int, ...], eps1: float, eps2: float, d: float, power: float):
        self.eps1, self.eps2, self.d, self.power, self.t = eps1, eps2, d, power, 0
        self.rows, self.columns, self.entries = np.zeros(shape[0]), np.zeros(shape[-1]), 0.0

    def update(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        self.t += 1
        b2 = 1 - self.t**-self.power
        square = g * g + self.eps1
        if x.ndim == 2:
            self.rows = b2 * self.rows + (1 - b2) * square @ np.ones(x.shape[1])
            self.columns = b2 * self.columns + (1 - b2) * np.ones(x.shape[0]) @ square
            second = np.outer(self.rows, self.columns) / (np.ones(x.shape[0]) @ self.rows)
        else:
            second = self.entries = b2 * self.entries + (1 - b2) * square
        u = g / np.sqrt(second)
        u = u / max(1, np.sqrt(np.mean(u * u)) / self.d)
        return max(self.eps2, np.sqrt(np.mean(x * x))) * u


@pytest.mark.parametrize(('clip', 'smallest'), [(1.0, 1e-3), (0.4, 0.9)])
def test_adafactor_is_float64_adafactor(clip: float, smallest: float) -> None:
    eps, power, decay, steps = 0.01, 0.6, 0.3, 12
    start = drawn(0)
    want = {k: layers(k, x) for k, x in start.items()}
    of_layers = {
        k: [PaperAdafactor(one.shape, eps**2, smallest, clip, power) for one in x]
        for k, x in want.items()
    }
    for t in range(steps):
        gradients = drawn(100 + t)
        for k, x in want.items():
            both = zip(of_layers[k], x, layers(k, gradients[k]), strict=True)
            u = np.stack([paper.update(one, g) for paper, one, g in both])
            want[k] = x - rate(t) * (u + decay * (k in DECAYED) * x)
    options = {'decay_power': power, 'clip_rms': clip, 'smallest_rms': smallest}
    optimizer = built('adafactor', rate, eps=eps, weight_decay=decay, options=options)
    got = run(optimizer, start, steps)
    assert_near(got, {k: x.reshape(SHAPES[k]) for k, x in want.items()})


@pytest.mark.parametrize('relative', [True, False])
def test_adafactor_of_a_matrix_is_that_of_optax(relative: bool) -> None:
    dims = {path: DIMS[path] for path in ('w', 'b')}
    params = {path: drawn(0)[path] for path in dims}
    ours = built('adafactor', rate, dims, weight_decay=0.0, eps=1e-15,
                 options={'relative': relative})  # fmt: skip
    theirs = optax.adafactor(
        rate, min_dim_size_to_factor=2, multiply_by_parameter_scale=relative, eps=1e-30
    )
    states = [optimizer.init(params) for optimizer in (ours, theirs)]
    for step in range(5):
        gradients = {path: drawn(100 + step)[path] for path in dims}
        one, states[0] = ours.update(gradients, states[0], params)
        other, states[1] = theirs.update(gradients, states[1], params)
        assert_near(one, {path: np.asarray(x) for path, x in other.items()})
        params = optax.apply_updates(params, one)


def test_adafactor_keeps_rows_and_columns_of_each_layer() -> None:
    kept = {
        'LDF': ('LD', 'LF'), 'LDHK': ('LD', 'LHK'), 'LHKD': ('LHK', 'LD'), 'VD': ('V', 'D'),
        'PD': ('P', 'D'), 'DD': ('D', 'D'), 'LD': ('LD',), 'LHK': ('LHK',), 'RH': ('RH',),
    }  # fmt: skip
    options = adafactor.Options()
    assert {letters: adafactor.kept(options, letters) for letters in kept} == kept


def newton_schulz(g: np.ndarray, eps: float) -> np.ndarray:
    """Jordan et al. 2024: five steps of 3.4445 X - 4.7750 (X X^T) X + 2.0315 (X X^T)^2 X."""
    x = g / (np.sqrt(np.sum(g * g)) + eps)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


@pytest.mark.parametrize('rms', [None, 0.2])
@pytest.mark.parametrize('nesterov', [True, False])
def test_muon_is_float64_muon(rms: float | None, nesterov: bool) -> None:
    b, eps, decay, steps = 0.8, 1e-6, 0.3, 6
    start = {k: x for k, x in drawn(0).items() if k in MATRICES}
    want = {k: layers(k, x) for k, x in start.items()}
    mean = {k: np.zeros_like(x) for k, x in want.items()}
    for t in range(1, steps + 1):
        gradients = drawn(100 + t - 1)
        for k, x in want.items():
            g = layers(k, gradients[k])
            mean[k] = b * mean[k] + (1 - b) * g
            ahead = mean[k] / (1 - b**t)
            if nesterov:
                ahead = b * mean[k] / (1 - b ** (t + 1)) + (1 - b) * g / (1 - b**t)
            width_in, width_out = x.shape[1:]
            scale = np.sqrt(max(1, width_out / width_in))
            if rms is not None:
                scale = rms * np.sqrt(max(width_in, width_out))
            u = scale * np.stack([newton_schulz(one, eps) for one in ahead])
            want[k] = x - rate(t - 1) * (u + decay * x)
    options = {'momentum': b, 'nesterov': nesterov, 'rms': rms}
    optimizer = built('muon', rate, eps=eps, weight_decay=decay, options=options)
    got = run(optimizer, drawn(0), steps)
    assert_near({k: got[k] for k in want}, {k: x.reshape(SHAPES[k]) for k, x in want.items()})


@pytest.mark.parametrize('rms', [None, 0.2])
def test_muon_of_a_matrix_is_that_of_optax_and_the_rest_is_adamw(rms: float | None) -> None:
    params = {path: drawn(0)[path] for path in ('w', 'b')}
    options = {'rms': rms, 'adamw_rate': 0.5, 'adamw_b2': 0.9}
    ours = built('muon', rate, {'w': 'DF', 'b': 'F'}, weight_decay=0.3, options=options)
    theirs = optax.contrib.muon(
        rate, weight_decay=0.3, adam_b2=0.9, adam_learning_rate=lambda step: 0.5 * rate(step),
        consistent_rms=rms,
    )  # fmt: skip
    states = [optimizer.init(params) for optimizer in (ours, theirs)]
    adamw = built('adamw', lambda step: 0.5 * rate(step), DIMS, weight_decay=0.3,
                  options={'b2': 0.9})  # fmt: skip
    for step in range(5):
        gradients = {path: drawn(100 + step)[path] for path in params}
        one, states[0] = ours.update(gradients, states[0], params)
        other, states[1] = theirs.update(gradients, states[1], params)
        assert_near({'w': one['w']}, {'w': np.asarray(other['w'])})
        params = optax.apply_updates(params, one)
    got = run(built('muon', rate, weight_decay=0.3, options=options), drawn(0), 5)
    want = run(adamw, drawn(0), 5)
    rest = {*DIMS} - MATRICES
    assert_near({k: got[k] for k in rest}, {k: np.asarray(want[k]) for k in rest})


def test_what_muon_turns() -> None:
    dims = {
        'LDF': True, 'LFD': True, 'LDHK': True, 'LHKD': True, 'LDGK': True, 'DD': True, 'VD': False,
        'DV': False, 'PD': False, 'YD': False, 'LD': False, 'LHK': False, 'RH': False, 'V': False,
    }  # fmt: skip
    assert {letters: muon.turns(letters) for letters in dims} == dims


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('adafactor', {'clip_rms': 0.0}, 'optim.options.clip_rms=0.0: must be positive'),
        ('lion', {'b1': 1.0}, 'optim.options.b1=1.0: must be in [0, 1)'),
        ('muon', {'momentum': 1.0}, 'optim.options.momentum=1.0: must be in [0, 1)'),
        ('muon', {'iterations': 0}, 'optim.options.iterations=0: must be positive'),
        ('adamw', {'b1': 1.0}, 'optim.options.b1=1.0: must be in [0, 1)'),
        ('adamw', {'b2': -0.1}, 'optim.options.b2=-0.1: must be in [0, 1)'),
        ('sgd', {'momentum': 1.5}, 'optim.options.momentum=1.5: must be in [0, 1), or none'),
    ],
)
def test_bad_options(name: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        built(name, rate, options=options)
    assert str(error.value) == words


def test_adafactor_refuses_an_epsilon_whose_square_vanishes() -> None:
    with pytest.raises(UserError, match='optim.eps=1e-25: adafactor squares it; at least 1e-18'):
        built('adafactor', rate, eps=1e-25)
