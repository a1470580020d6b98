"""FLOP counts: equal to the products that the compiled program is made of, and to 6N."""

import math
from typing import Any

import jax
import numpy as np
import pytest

from lm import registry
from lm.batch import Batch
from lm.models.functional import Functional, functional
from lm.named_configs import load_config
from lm.planning.devices import PF_DAY, peak_flops
from lm.planning.flops import train_flops, train_flops_exact
from lm.precision.policy import POLICIES
from tests.models.tiny import LENGTH, packed_batch, tiny
from tests.models.tracing import equations


def products(jaxpr: Any) -> int:
    """FLOPs of all matrix products of a traced program."""
    total = 0
    for equation, times in equations(jaxpr):
        if equation.primitive.name == 'dot_general':
            contracted, _ = equation.params['dimension_numbers'][0]
            left = equation.invars[0].aval.shape
            depth = math.prod(left[axis] for axis in contracted)
            total += times * 2 * depth * math.prod(equation.outvars[0].aval.shape)
    return total


def traced_flops(model: Functional, batch: Batch) -> tuple[int, int]:
    """Of the forward pass, and of forward and backward."""

    def total(params: dict[str, jax.Array]) -> jax.Array:
        return model.apply(params, batch).sum()

    return (
        products(jax.make_jaxpr(total)(model.shapes).jaxpr),
        products(jax.make_jaxpr(jax.value_and_grad(total))(model.shapes).jaxpr),
    )


@pytest.mark.parametrize('name', registry.names('models'))
def test_exact_count_equals_the_traced_program(name: str) -> None:
    model = tiny(name, vocab_multiple=1)
    batch = packed_batch(model)
    decoder_len = None if batch.decoder_tokens is None else batch.decoder_tokens.shape[1]
    got = train_flops_exact(model, LENGTH, decoder_len)
    forward, both = traced_flops(model, batch)
    assert got.row == 3 * forward == both
    assert got.row == sum(got.by_group.values())


def test_six_n_and_the_causal_half() -> None:
    model = functional(load_config('llama_7b').model, POLICIES['fp32'])
    n = 6_476_005_376 + 32_000 * 4096
    assert train_flops(model, 2048).row == 6 * n * 2048
    assert train_flops(model, 2048).per_token == 6 * n
    full = train_flops_exact(model, 2048)
    half = train_flops_exact(model, 2048, attention='causal_halved')
    scores = 12 * 32 * 4096 * 2048**2  # 12 L D T^2
    assert full.row == 6 * n * 2048 + scores
    assert half.by_group['decoder/scores'] == scores * 2049 // (2 * 2048)
    assert 'up to the query' in half.rule and full.rule != half.rule


def test_encoder_decoder_counts_each_side_by_its_own_tokens() -> None:
    model = functional(load_config('t5v11_base').model, POLICIES['fp32'])
    attention, feed_forward = 4 * 768 * 768, 3 * 768 * 2048
    encoder = 12 * (attention + feed_forward)
    decoder = 12 * (2 * attention + feed_forward) + 32_128 * 768
    got = train_flops(model, 512, 114)
    assert got.row == 6 * (encoder * 512 + decoder * 114)
    assert got.tokens == 626
    with pytest.raises(ValueError, match='decoder_len'):
        train_flops(model, 512)


def test_counts_do_not_overflow() -> None:
    model = functional(load_config('llama_70b').model, POLICIES['fp32'])
    flops = train_flops(model, 4096)
    assert isinstance(flops.row, int)
    assert flops.row * 1024 * 480_000 / PF_DAY == pytest.approx(9_610, rel=0.01)


def test_peaks_are_those_of_the_device_named() -> None:
    assert peak_flops('NVIDIA H100 80GB HBM3', 'bfloat16') == 989e12
    assert peak_flops('NVIDIA H100 PCIe', np.float32) == 51e12
    assert peak_flops('Tesla V100-SXM2-16GB', 'bfloat16') is None
    assert peak_flops('TPU v5 lite', 'bfloat16') == 197e12
    assert peak_flops('TPU v5p', 'bfloat16') == 459e12
    assert peak_flops('NVIDIA GB200', 'bfloat16') == 2500e12
    assert peak_flops('NVIDIA GH200', 'bfloat16') is None
    assert peak_flops('cpu', 'float32') is None
