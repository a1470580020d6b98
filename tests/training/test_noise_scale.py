"""The gradient noise scale against float64 NumPy, where the true one is known, and on meshes."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lm import UserError
from lm import mesh as meshes
from lm.batch import Batch
from lm.config import MeshConfig, ModelConfig
from lm.mesh.placement import place
from lm.models.functional import Functional
from lm.objectives._objective import Sums
from lm.training.loop import Report
from lm.training.noise_scale import NoiseScale, estimates
from lm.training.step import Metrics, Spread, State, build_step
from lm.training.update import plain_update
from tests.training.numerics import SGD, TOLERANCE, batches, initial, program, steps
from tests.training.runs import Runs, read_rows, timeless

WIDTH, ROWS, PARTS = 64, 64, 4
MEAN, DEVIATION = 0.25, 2.0
"""Of each entry of a row's gradient."""
TRUE_SQUARE, TRUE_VARIANCE = WIDTH * MEAN**2, WIDTH * DEVIATION**2  # 4 and 256: a scale of 64 rows


def report_of(metrics: Metrics) -> Report:
    nothing: Any = Batch(np.zeros(0), np.zeros(0), np.zeros(0))
    loss, norm, rate, targets, spread, _ = metrics
    return Report(1, loss, norm, rate, targets, nothing, 0.0, spread)


class Quadratic(Functional):
    """A model of one vector w; the `logits` of a row are w less what the row holds."""

    def __init__(self) -> None:
        shapes = {'w': jax.ShapeDtypeStruct((WIDTH,), jnp.float32)}
        for name, value in {
            'config': ModelConfig(), 'family': 'decoder', 'dims': {'w': 'D'}, 'shapes': shapes,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def splits_rows(self) -> bool:
        return False

    @property
    def logits_dtype(self) -> Any:
        return jnp.float32

    def apply(self, params: Any, batch: Any, **unused: Any) -> Any:
        # [B, T, D], with T = 1.
        return params['w'][None, None, :] - jnp.asarray(batch.targets)[:, None, :]


class HalfSquare:
    """The objective: half the squared distance, so that a row's gradient is w less the row."""

    row_len, overlap, boundaries, target_len, factorises = 1, 0, False, 1, False

    def example(self, row: Any, rng: Any) -> Any: ...

    def tokens_used(self, batch: Any) -> int:
        return 0

    def span_rows(self, text: Any, start: int, stop: int) -> Any: ...

    def loss(self, logits_BTV: Any, batch: Any) -> Sums:
        return Sums(jnp.sum(logits_BTV**2) / 2, jnp.float32(logits_BTV.shape[0]))


def rows_of(rng: np.random.Generator) -> np.ndarray:
    """What rows hold where w = 0: less their gradients, which are MEAN + noise."""
    return -(MEAN + DEVIATION * rng.standard_normal((ROWS, WIDTH))).astype(np.float32)


@pytest.mark.parametrize(('devices', 'strategy'), [(1, 'ddp'), (8, 'ddp'), (8, 'zero2')])
def test_the_scale_of_a_quadratic_whose_noise_is_known(devices: int, strategy: Any) -> None:
    layout = meshes.build(MeshConfig(strategy=strategy, devices=devices), ROWS, PARTS, None)
    model, still = Quadratic(), optax.sgd(0.0)
    placement = place(layout, model.dims, model.shapes)
    step = jax.jit(
        build_step(
            model, HalfSquare(), plain_update(still), optax.constant_schedule(0.0), placement,
            microbatches=PARTS, clip_norm=None, seed=0, noise_scale=True,
        )
    )  # fmt: skip
    params = {'w': jnp.zeros(WIDTH)}
    state = State(params, still.init(params), jnp.int32(0))
    rng, measured = np.random.default_rng(0), NoiseScale(ROWS)
    for _ in range(300):
        rows = rows_of(rng)
        batch = Batch(*([np.zeros((ROWS, 1), np.int32)] * 3), targets=rows)
        state, told = step(state, layout.place(batch))
        jax.block_until_ready(state)
        report = report_of(Metrics.unpacked(told))
        # Appendix A.1 in float64, with B_small = ROWS / PARTS and B_big = ROWS.
        gradients = -rows.astype(np.float64).reshape(-1, PARTS, WIDTH)
        small, big = ROWS // PARTS, ROWS
        of_small = np.mean(np.sum(gradients.mean(0) ** 2, -1))
        of_big = np.sum(gradients.mean((0, 1)) ** 2)
        square = (big * of_big - small * of_small) / (big - small)
        variance = (of_small - of_big) / (1 / small - 1 / big)
        assert estimates(report, ROWS) == pytest.approx((square, variance), rel=1e-4)
        measured(report)
    row = measured.row()
    assert row['gradient_square'] == pytest.approx(TRUE_SQUARE, rel=0.1)
    assert row['gradient_variance'] == pytest.approx(TRUE_VARIANCE, rel=0.1)
    assert row['noise_scale'] == pytest.approx(TRUE_VARIANCE / TRUE_SQUARE, rel=0.1)


def test_the_estimates_are_unbiased_whatever_the_counts_of_targets() -> None:
    # A microbatch of w targets has a gradient of covariance 1 / w of that of one target.
    rng, counts = np.random.default_rng(1), np.array([3.0, 40.0, 0.0, 7.0, 14.0])
    held, total = counts > 0, counts.sum()
    noise = (
        rng.standard_normal((40_000, len(counts), WIDTH)) / np.sqrt(np.maximum(counts, 1))[:, None]
    )
    means = MEAN + DEVIATION * np.where(held[:, None], noise, 0)
    squares = (np.sum(means**2, -1) * counts).sum(1) / total
    norms = np.linalg.norm(np.einsum('nmd,m->nd', means, counts / total), axis=-1)
    found = np.array([
        estimates(report_of(Metrics(0.0, float(n), 0.0, total, Spread(float(s), 4.0))), 16)
        for s, n in zip(squares, norms, strict=True)
    ])  # fmt: skip
    # 16 rows of 4 targets each: the covariance of a row's mean is a quarter of a target's.
    mean, error = found.mean(0), found.std(0) / len(found) ** 0.5
    np.testing.assert_array_less(np.abs(mean - (TRUE_SQUARE, TRUE_VARIANCE / 4)), 4 * error)
    np.testing.assert_array_less(error, 0.02 * mean)


MESHES: dict[str, dict[str, Any]] = {
    'ddp': {},
    'zero1': {'mesh.strategy': 'zero1'},
    'zero2': {'mesh.strategy': 'zero2'},
    'zero3': {'mesh.strategy': 'zero3'},
    'zero3_tensor': {'mesh.strategy': 'zero3', 'mesh.tensor': 2},
    'zero2_explicit': {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'},
    'zero3_explicit': {
        'mesh.strategy': 'zero3', 'mesh.replica': 2, 'mesh.collectives': 'explicit',
    },
}  # fmt: skip
ON = {**SGD, 'train.noise_scale': True}
MICROBATCHES = 2  # of four, explicit collectives take other ones on each device


@functools.cache
def measured_on(devices: int, microbatches: int, mesh: str = 'ddp') -> tuple[State, Metrics]:
    made = program('gpt2', devices, microbatches, **ON, **MESHES[mesh])
    state, [metrics] = steps(made, batches(made, 1))
    return state, metrics


def test_the_spread_of_unequal_microbatches_is_that_of_their_gradients() -> None:
    made = program('gpt2', 1, 4, **ON)
    [batch] = batches(made, 1)
    params = initial('gpt2', 'sgd').params

    def loss(params: Any, part: Batch) -> Any:
        return made.objective.loss(made.functional.apply(params, part), part).loss

    gradient = jax.jit(jax.grad(loss))
    squares, weights = [], []
    for m in range(4):
        part = jax.tree.map(lambda x, m=m: x[m::4], batch)
        weights.append(float(np.asarray(part.loss_weights).sum()))
        of_part = [np.asarray(g, np.float64) for g in gradient(params, part).values()]
        if weights[-1]:
            squares.append(sum(np.sum((g / weights[-1]) ** 2) for g in of_part) * weights[-1])
    assert weights[3] == 0 and len({*weights}) > 2
    spread = measured_on(1, 4)[1].spread
    assert spread is not None
    assert spread.parts == 3
    assert spread.square == pytest.approx(sum(squares) / sum(weights), rel=1e-5)


@pytest.mark.parametrize('mesh', MESHES)
def test_eight_devices_measure_what_one_does(mesh: str) -> None:
    one, eight = measured_on(1, 2)[1], measured_on(8, 2, mesh)[1]
    assert one.spread is not None and eight.spread is not None
    assert eight.spread.parts == one.spread.parts == 2
    np.testing.assert_allclose(eight.spread.square, one.spread.square, rtol=TOLERANCE)
    np.testing.assert_allclose(eight.grad_norm, one.grad_norm, rtol=TOLERANCE)


@pytest.mark.usefixtures('users_compiler')
@pytest.mark.parametrize(('devices', 'mesh'), [(1, 'ddp'), (8, 'zero3'), (8, 'zero3_explicit')])
def test_measuring_changes_no_number(devices: int, mesh: str) -> None:
    off = program('gpt2', devices, 2, **SGD, **MESHES[mesh])
    state, [metrics] = steps(off, batches(off, 1))
    measured, told = measured_on(devices, 2, mesh)
    assert metrics.spread is None
    assert told._replace(spread=None) == metrics
    for path, array in state.params.items():
        np.testing.assert_array_equal(measured.params[path], array, path)


def test_one_microbatch_tells_nothing_of_noise() -> None:
    scale = NoiseScale(8)
    nothing = {'noise_scale': None, 'gradient_square': None, 'gradient_variance': None}
    assert scale.row() == nothing
    scale(report_of(Metrics(1.0, 1.0, 0.1, 5.0, Spread(1.0, 1.0))))
    assert scale.row() == nothing
    # More noise than gradient: |G|^2 is estimated as negative, and no scale is made up.
    scale(report_of(Metrics(1.0, 1.0, 0.1, 5.0, Spread(3.0, 2.0))))
    assert scale.row() == {'noise_scale': None, 'gradient_square': -1.0, 'gradient_variance': 16.0}


@pytest.mark.usefixtures('users_compiler')
def test_averages_go_on_with_the_run(runs: Runs, tmp_path: Path) -> None:
    on = {'train__noise_scale': True, 'train__microbatches': 2}
    plain = runs.train('llama', tmp_path / 'off', train__steps=12, train__microbatches=2)
    straight = runs.train('llama', tmp_path / 'straight', train__steps=12, **on)
    assert straight['params_sha256'] == plain['params_sha256']
    runs.train('llama', tmp_path / 'parted', train__steps=5, **on)
    runs.train('llama', tmp_path / 'parted', train__steps=12, **on)
    one, other, off = (
        timeless(read_rows(tmp_path / name / 'metrics.jsonl'))
        for name in ('straight', 'parted', 'off')
    )
    assert one == other
    assert all(row['gradient_variance'] > 0 for row in one)
    assert not any('noise_scale' in row for row in off)
    # Switched on by a run that had not measured: it begins there.
    runs.train('llama', tmp_path / 'off', train__steps=14, **on)
    begun = read_rows(tmp_path / 'off' / 'metrics.jsonl')[12:]
    assert [row['gradient_variance'] is None for row in begun] == [False, False]


def test_it_needs_microbatches(runs: Runs) -> None:
    with pytest.raises(UserError, match=r'train.noise_scale=True: .*train.microbatches=1 must be'):
        runs.config('llama', train__noise_scale=True)
    config = runs.config('llama', train__noise_scale=True, train__microbatches=2)
    assert dataclasses.replace(config.train, noise_scale=False).microbatches == 2
