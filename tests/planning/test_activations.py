"""Activations in closed form: compared with the residuals that JAX keeps."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn_inside

from lm import registry
from lm.attention.kernel import Kernel, Use
from lm.batch import Batch
from lm.config import ModelConfig
from lm.layout import Layout
from lm.models.functional import Functional, functional
from lm.objectives._objective import weighted_cross_entropy
from lm.planning.activations import REMATS, Work, activations
from lm.planning.axes import Axes
from lm.planning.parameters import model_shape
from lm.precision.policy import POLICIES
from tests.models.tiny import read_by

ROWS, LENGTH, DECODER_LENGTH = 4, 96, 64


def model_config(name: str, remat: Any, **changes: Any) -> ModelConfig:
    """Wide enough that the closed form's terms, and not what it leaves out, decide."""
    options = registry.lookup('models', name, 'model.name').Options(**changes.pop('options', {}))
    sizes: dict[str, Any] = {
        'num_layers': 6, 'd_model': 128, 'num_heads': 4, 'd_ff': 320, 'vocab_size': 512,
        'max_positions': 96, 'remat': remat, 'options': options,
    }  # fmt: skip
    return ModelConfig(name=name, **read_by(name, {**sizes, **changes}))


def a_batch(model: Functional) -> Batch:
    def ids(length: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((ROWS, length), jnp.int32)

    sides = [ids(LENGTH)] * 3
    if model.family == 'encoder_decoder':
        sides += [ids(DECODER_LENGTH)] * 3
    targets = sides[-1]
    weights = jax.ShapeDtypeStruct(targets.shape, jnp.float32)
    return Batch(*sides, *[None] * (6 - len(sides)), targets, weights)


def held_bytes(config: ModelConfig, work: Work) -> float:
    """Of the closed form, without the logits' gradient, which the backward pass makes itself."""
    got = activations(model_shape(config), work, config.remat)
    return got.saved + got.host + got.logits / 2


def residual_bytes(model: Functional, remat: str) -> int:
    """What the backward pass is given, without parameters and their casts."""
    key = jax.random.key(0) if model.config.dropout else None

    def backward(params: dict[str, jax.Array], batch: Batch) -> Any:
        def loss(params: dict[str, jax.Array]) -> jax.Array:
            logits = model.apply(params, batch, dropout_key=key, dtype=model.logits_dtype)
            return weighted_cross_entropy(logits, batch).loss

        return jax.vjp(loss, params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, model.shapes, a_batch(model)))
    weights = {shape.shape for shape in model.shapes.values()}
    weights |= {shape[1:] for shape in weights} | {shape[::-1] for shape in weights}
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf in leaves
        if leaf.shape not in weights and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )


@pytest.mark.parametrize('remat', REMATS)
@pytest.mark.parametrize('policy', ['fp32', 'bf16_mixed'])
@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        *[(name, {}) for name in registry.names('models')],
        ('gpt2', {'dropout': 0.1}),
        ('gpt2', {'scan_layers': False}),
        ('t5', {'dropout': 0.1}),
        ('lstm', {'dropout': 0.1}),
        ('gru', {'scan_layers': False}),
        ('lstm_seq2seq', {'dropout': 0.1}),
        ('t5', {'options': {'gated': False, 'tie_embeddings': True}}),
        ('llama', {'num_kv_heads': 2, 'options': {'qk_norm': True}}),
        ('llama', {'head_dim': 16, 'options': {'positions': 'learned'}}),
    ],
    ids=str,
)
def test_saved_bytes(name: str, changes: dict[str, Any], policy: str, remat: str) -> None:
    config = model_config(name, remat, **changes)
    model = functional(config, POLICIES[policy])
    lengths = {model.family: LENGTH}
    if model.family == 'encoder_decoder':
        lengths = {'encoder': LENGTH, 'decoder': DECODER_LENGTH}
    compute = jnp.dtype(POLICIES[policy].compute_dtype).itemsize
    work = Work(ROWS, lengths, Axes(1, 1), compute)
    assert held_bytes(config, work) == pytest.approx(residual_bytes(model, remat), rel=0.05)


@pytest.mark.parametrize('remat', ['none', 'dots'])
@pytest.mark.parametrize('policy', ['int8_qat', 'int8_weight_only', 'fp8'])
@pytest.mark.parametrize('name', ['bert', 'llama', 't5', 'gru'])
def test_quantized_products_keep_no_more(name: str, policy: str, remat: str) -> None:
    test_saved_bytes(name, {}, policy, remat)


@pytest.mark.parametrize('remat', REMATS)
@pytest.mark.parametrize(
    ('name', 'policy'),
    [
        ('blockwise', 'fp16_mixed'),
        ('blockwise', 'bf16_mixed'),
        ('cudnn', 'bf16_mixed'),
        ('splash', 'bf16_mixed'),
    ],
)
def test_saved_bytes_of_fused_attention(
    name: Any, policy: str, remat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cudnn_inside, 'check_cudnn_version', lambda: 91300)
    monkeypatch.setattr(cudnn_inside, 'check_compute_capability', lambda capability: True)
    monkeypatch.setattr(cudnn_inside, 'is_cuda_compute_capability_equal', lambda capability: False)
    monkeypatch.setattr('tests.planning.test_activations.LENGTH', 256)
    # As wide as the lanes, so that no head is filled up, which JAX knows nothing of.
    config = model_config('llama', remat, head_dim=128, num_kv_heads=2, max_positions=256)
    kernel = Kernel(name, 1, uses=(Use('decoder', 256),))
    layout = Layout()
    layout.kernel = kernel
    model = functional(config, POLICIES[policy], layout)
    work = Work(ROWS, {'decoder': 256}, Axes(1, 1), 2, kernel=kernel)
    assert held_bytes(config, work) == pytest.approx(residual_bytes(model, remat), rel=0.05)


@pytest.mark.parametrize('remat', REMATS)
def test_saved_bytes_by_blocks_of_two_sides(remat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder's own rows are no whole blocks, and the encoder's are."""
    monkeypatch.setattr('tests.planning.test_activations.LENGTH', 256)
    config = model_config('t5', remat, max_positions=256)
    crossing = Use('cross-attention', DECODER_LENGTH, crosses=True)
    uses = Use('encoder', 256, bias=True), Use('decoder', DECODER_LENGTH, bias=True), crossing
    layout = Layout()
    layout.kernel = Kernel('blockwise', 1, uses=uses)
    model = functional(config, POLICIES['fp32'], layout)
    lengths = {'encoder': 256, 'decoder': DECODER_LENGTH}
    work = Work(ROWS, lengths, Axes(1, 1), 4, kernel=layout.kernel)
    assert held_bytes(config, work) == pytest.approx(residual_bytes(model, remat), rel=0.05)
