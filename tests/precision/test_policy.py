"""Precision policies: what the compiled training step really multiplies in, and keeps."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lm.batch import Batch
from lm.config import MeshConfig
from lm.mesh import build
from lm.mesh.placement import place
from lm.models.functional import Functional
from lm.objectives.clm import CausalLM
from lm.precision.policy import POLICIES, default_policy_name
from lm.shapes import Params
from lm.training.step import Metrics, State, build_step
from lm.training.update import plain_update
from tests.models.tiny import packed_batch, predicting, tiny
from tests.objectives.rows import VOCABULARY

ARCHITECTURES = ['bert', 'gpt2', 'llama', 't5']
every_architecture = pytest.mark.parametrize('name', ARCHITECTURES)
RATE = 1e-2


@functools.cache
def model(name: str, policy: str) -> Functional:
    return tiny(name, policy, num_layers=1, remat='dots')


def training_batch(functional: Functional) -> Batch:
    batch = packed_batch(functional)
    tokens, segments = predicting(batch)
    return batch._replace(targets=tokens, loss_weights=(segments > 0).astype(np.float32))


@functools.cache
def step_of(name: str, policy: str) -> tuple[jax.stages.Wrapped, State, Batch]:
    functional = model(name, policy)
    objective = CausalLM(VOCABULARY, target_len=1)  # only its device half is used
    optimizer = optax.sgd(RATE)
    placement = place(build(MeshConfig(devices=1), 1, 1), functional.dims, functional.shapes)
    step = build_step(
        functional, objective, plain_update(optimizer), lambda step: RATE, placement,
        microbatches=1, clip_norm=1.0, seed=0,
    )  # fmt: skip
    params = jax.jit(functional.init)(jax.random.key(0))
    return (
        jax.jit(step),
        State(params, optimizer.init(params), jnp.int32(0)),
        training_batch(functional),
    )


def dots(text: str) -> list[tuple[str, set[str]]]:
    """Precision and operand types of every matrix product in a StableHLO text."""
    found = []
    for line in text.splitlines():
        if 'stablehlo.dot' not in line and 'stablehlo.convolution' not in line:
            continue
        precision = re.search(r'precision = \[(\w+), (\w+)\]', line)
        operands = re.search(r': \(tensor<(\S+)>, tensor<(\S+)>\)', line)
        assert operands is not None, line
        kind = 'DEFAULT' if precision is None else '+'.join(sorted(set(precision.groups())))
        found.append((kind, {shape.split('x')[-1] for shape in operands.groups()}))
    return found


def operands(lowered: jax.stages.Lowered) -> list[tuple[str, str]]:
    """Element types of both operands of every matrix product in a lowered program."""
    found = []
    for line in lowered.as_text().splitlines():
        pair = re.search(r'dot_general.* : \(tensor<(\S+)>, tensor<(\S+)>\)', line)
        if pair:
            found.append((pair[1].split('x')[-1], pair[2].split('x')[-1]))
    return found


@every_architecture
def test_fp32_multiplies_in_fp32_everywhere(name: str) -> None:
    step, state, batch = step_of(name, 'fp32')
    found = dots(step.lower(state, batch).as_text())
    assert len(found) >= 24
    assert {kind for kind, _ in found} == {'HIGHEST'}
    assert {t for _, types in found for t in types} == {'f32'}


def test_a_product_of_default_precision_would_be_seen() -> None:
    x = jnp.ones((2, 2))
    assert dots(jax.jit(lambda x: x @ x).lower(x).as_text()) == [('DEFAULT', {'f32'})]


@every_architecture
def test_bf16_mixed_multiplies_in_bf16_and_keeps_fp32(name: str) -> None:
    functional = model(name, 'bf16_mixed')
    batch = training_batch(functional)
    step, state, _ = step_of(name, 'bf16_mixed')
    forward = jax.jit(functional.apply).lower(state.params, batch).as_text()
    products = dots(forward)
    # Cosines and sines of rotary positions, fp32, go through a product with the identity.
    angles = [types for kind, types in products if kind == 'HIGHEST']
    assert angles in ([], [{'f32'}] * 2, [{'f32'}] * 4)
    assert all(types == {'bf16'} for kind, types in products if kind != 'HIGHEST')
    assert len(products) > 2 * len(angles)
    assert {x.dtype for x in state.params.values()} == {jnp.dtype('float32')}
    after, metrics = step(state, batch)
    assert {x.dtype for x in after.params.values()} == {jnp.dtype('float32')}
    assert jax.eval_shape(functional.apply, state.params, batch).dtype == jnp.float32
    assert metrics.dtype == jnp.float32


@every_architecture
def test_bf16_mixed_trains_as_fp32_does(name: str) -> None:
    def losses(policy: str) -> np.ndarray:
        step, state, batch = step_of(name, policy)
        seen = []
        for _ in range(4):
            state, metrics = step(state, batch)
            seen.append(Metrics.unpacked(metrics).loss)
        return np.array(seen)

    exact, mixed = losses('fp32'), losses('bf16_mixed')
    assert np.isfinite(mixed).all()
    np.testing.assert_allclose(mixed, exact, rtol=0.02)
    assert mixed[-1] < mixed[0]
    assert not np.array_equal(mixed, exact)


@every_architecture
def test_a_policys_gradients_are_of_its_parameters_dtype(name: str) -> None:
    for policy in POLICIES.values():
        functional = model(name, policy.name)

        def total(params: Params, functional: Functional = functional) -> jax.Array:
            return jnp.sum(functional.apply(params, training_batch(functional))[..., :9])

        gradients = jax.eval_shape(jax.grad(total), functional.shapes)
        assert {g.dtype for g in gradients.values()} == {jnp.dtype(policy.param_dtype)}


def test_the_default_on_cpu_is_fp32() -> None:
    if jax.default_backend() != 'cpu':
        pytest.skip('another device')
    assert default_policy_name() == 'fp32'


@pytest.mark.parametrize('policy', POLICIES)
def test_no_token_depends_on_later_ones_or_on_other_rows(policy: str) -> None:
    """Scales of 8 bits are a token's own: a gradient could not tell, for none passes a scale."""
    functional = tiny('llama', policy)
    params = jax.jit(functional.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    tokens_BT = rng.integers(5, 37, (2, 12)).astype(np.int32)
    others_BT = tokens_BT.copy()
    others_BT[0, 8:] = others_BT[0, 8:] % 31 + 5
    others_BT[1] = rng.integers(5, 37, 12)
    places_BT = np.tile(np.arange(12, dtype=np.int32), (2, 1))
    logits = [
        np.asarray(functional.apply(params, Batch(t, np.ones_like(t), places_BT)))
        for t in (tokens_BT, others_BT)
    ]
    np.testing.assert_array_equal(logits[0][0, :8], logits[1][0, :8])
    assert not np.array_equal(logits[0][0, 8:], logits[1][0, 8:])
