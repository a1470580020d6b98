"""Tiny programs on meshes of emulated devices, batches for them, and how their states compare."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax

import lm
from lm import registry
from lm.batch import Batch, Row, stack
from lm.config import OptimConfig
from lm.fields import setting
from lm.training.program import Program, build_program
from lm.training.step import Metrics, State
from lm.vocabulary import Vocabulary
from tests.training.runs import CONFIG

VOCABULARY = Vocabulary(
    size=160, pad_id=0, bos_id=1, eos_id=2, unk_id=3, mask_id=4,
    sentinel_ids=tuple(range(5, 105)), mode_ids=(105, 106, 107),
)  # fmt: skip
TOLERANCE = 2e-5
SGD = {'optim.name': 'sgd', 'optim.peak_lr': 0.3, 'optim.clip_norm': None}
ADAMW = {'optim.name': 'adamw', 'optim.peak_lr': 1e-3, 'optim.eps': 1e-6, 'optim.clip_norm': 0.5}
BY_LEAF = {'optim.name': 'sgd_by_leaf', 'optim.weight_decay': 0.0, 'optim.clip_norm': None}
"""Plain SGD at which a step moves each leaf by about a hundredth of its RMS, by its gradient alone:
with one rate for all, attention's matrices hardly move, and nothing would tell a wrong gradient."""
ADAFACTOR = {**ADAMW, 'optim.name': 'adafactor', 'optim.peak_lr': 1e-2}
"""Its rate is relative to the parameters' root mean square, here about 0.1. `optim.eps` keeps the
key biases still, as for AdamW."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    **{name: {**ADAMW, 'optim.name': name} for name in registry.names('optimizers')},
    'sgd': SGD,
    'adafactor': ADAFACTOR,
    'sgd_by_leaf': BY_LEAF,
}
"""Settings of every optimizer there is, and of the one for tests."""


FEWEST_LAYERS = {'modernbert': 2}
"""Where one is not all kinds of layers: ModernBERT's first sees no window, and lacks a norm."""


@functools.cache
def program(family: str, devices: int, microbatches: int = 1, **overrides: Any) -> Program:
    """The step of a tiny model for 16 rows of 16, on the first `devices` devices."""
    if overrides.get('optim.name') == 'sgd_by_leaf':
        registry.register('optimizers', 'sgd_by_leaf', ByLeaf)
        overrides['optim.options.family'] = family
    changes = {
        'model.vocab_size': VOCABULARY.size,
        'model.dropout': 0.0,
        'model.num_layers': FEWEST_LAYERS.get(family, 1),
        'train.batch_size': 16,
        'train.seq_len': 16,
        'train.microbatches': microbatches,
        'mesh.devices': devices,
        'optim.warmup_steps': 0,
        'precision.policy': 'fp32',
        **overrides,
    }
    return build_program(lm.load_config(f'{CONFIG}:{family}', **changes), VOCABULARY)


class ByLeaf:
    """A member of the registry: SGD with a rate for each leaf."""

    @dataclasses.dataclass(frozen=True)
    class Options:
        family: str = setting('', 'whose rates')

    @staticmethod
    def build(config: OptimConfig, learning_rate: Any, dims: Any) -> optax.GradientTransformation:
        del learning_rate
        rates = leaf_rates(config.options.family)

        def update(gradients: Any, state: Any, params: Any = None) -> Any:
            return {path: -rates[path] * g for path, g in gradients.items()}, state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@functools.cache
def leaf_rates(family: str) -> dict[str, float]:
    """Rates at which the first batch moves each leaf by a hundredth; 0 of those of rounding."""
    made = program(family, 1, **SGD)
    [batch] = batches(made, 1)

    def loss(params: Any) -> Any:
        sums = made.objective.loss(made.functional.apply(params, batch), batch)
        return sums.loss / sums.weight

    params = initial(family, 'sgd').params
    gradients = jax.device_get(jax.jit(jax.grad(loss))(params))
    return {
        path: 0.0 if is_rounding(path, family) else 0.01 * _rms(params[path]) / _rms(gradient)
        for path, gradient in gradients.items()
    }


def is_rounding(path: str, family: str) -> bool:
    """Whether a parameter has no true gradient: a key's bias that no rotation follows."""
    return path.endswith('key_bias') and family != 'gpt_neox'


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def batches(made_for: Program, count: int) -> list[Batch]:
    """Rows of unequal numbers of targets; rows 14 and 15, and 3, 7, 11 and 15, have none.

    So the last of eight devices has no target, and the last of four microbatches none.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        rows = []
        for i in range(16):
            empty = i % 4 == 3 or i >= 14
            rows.append(_row(made_for, rng, 0 if empty else int(rng.integers(6, 17))))
        batch = stack([made_for.objective.example(row, rng) for row in rows])
        assert batch.loss_weights is not None
        targets = np.asarray(batch.loss_weights).sum(1)
        assert targets[14:].sum() == targets[3::4].sum() == 0
        assert len({targets[m::4].sum() for m in range(4)}) > 2
        found.append(batch)
    return found


def _row(made_for: Program, rng: np.random.Generator, filled: int) -> Row:
    size = made_for.objective.row_len
    filled = min(filled, size)
    place = np.arange(size)
    held = place < filled
    cut = filled // 3
    return Row(
        tokens=np.where(held, rng.integers(110, VOCABULARY.size, size), 0).astype(np.int32),
        segment_ids=np.where(held, 1 + (place >= cut), 0).astype(np.int32),
        positions=np.where(held, np.where(place >= cut, place - cut, place), 0).astype(np.int32),
        documents=np.where(held, 0, -1).astype(np.int32),
    )


@functools.cache
def initial(family: str, optimizer: str, layers: int | None = None) -> State:
    """The state that all programs of a family and so many layers begin with, on the host.

    Of as few layers as a program has by default, if not told. With noise on every parameter: as
    initialised, attention looks at all places alike and no bias matters.
    """
    layers = layers or FEWEST_LAYERS.get(family, 1)
    made = program(family, 1, **OPTIMIZERS[optimizer], **{'model.num_layers': layers})
    state: State = jax.device_get(jax.jit(made.init_state)())
    rng = np.random.default_rng(1)
    noise = {p: 0.1 * rng.standard_normal(x.shape, np.float32) for p, x in state.params.items()}
    return state._replace(params={p: x + noise[p] for p, x in state.params.items()})


@functools.cache
def compiled(made: Program) -> Any:
    """Its step for the batches of this file."""
    like = made.abstract_batch(_row(made, np.random.default_rng(0), 0))
    return made.step.lower(made.abstract_state, like).compile()


def shardings(made: Program) -> Any:
    """Where the state of a program lies."""
    return jax.tree.map(lambda x: x.sharding, made.abstract_state)


def steps(made: Program, data: list[Batch]) -> tuple[State, list[Metrics]]:
    """The state after a step on each batch, and what each step told."""
    model = made.config.model
    start = initial(model.name, made.config.optim.name, model.num_layers)
    state, told = jax.device_put(start, shardings(made)), []
    for batch in data:
        state, metrics = compiled(made)(state, made.layout.place(batch))
        jax.block_until_ready(state)
        told.append(Metrics.unpacked(metrics))
    return jax.device_get(state), told


def assert_close(
    one: tuple[State, list[Metrics]], other: tuple[State, list[Metrics]], family: str = ''
) -> None:
    """Within 2e-5 of each tensor's largest entry; key biases, of no true gradient, apart."""
    for first, second in zip(one[1], other[1], strict=True):
        assert first.targets == second.targets
        np.testing.assert_allclose(first.loss, second.loss, rtol=TOLERANCE)
        np.testing.assert_allclose(first.grad_norm, second.grad_norm, rtol=TOLERANCE)
    for path, first in one[0].params.items():
        second = other[0].params[path]
        largest = np.abs(first).max()
        if is_rounding(path, family):
            # Softmax does not feel them: what moves them is rounding, at most lr x steps of it.
            assert np.abs(first - second).max() < 1e-4, path
        else:
            assert np.abs(first - second).max() <= TOLERANCE * largest, path
