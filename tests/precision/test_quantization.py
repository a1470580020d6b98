"""Products in 8 bits: what is multiplied in which format, against NumPy, and their gradients."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lm.precision.policy import POLICIES, Quantization
from lm.precision.quantization import (
    dequantized,
    product,
    quantized,
    rounded,
    rounds,
    shared_axes,
)

EQUATIONS = [('BTD,DF->BTF', 'DF'), ('BTHK,HKD->BTD', 'HKD'), ('BTD,DQE->TBQE', 'DQD')]
SIZES = dict(zip('BTDFHKQE', (2, 3, 8, 5, 2, 4, 3, 7), strict=True))


def shape(letters: str) -> list[int]:
    return [SIZES[letter] for letter in letters]


def factors(equation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both factors and a gradient of what they give."""
    rng = np.random.default_rng(0)
    letters, given = equation.split('->')
    return tuple(
        rng.standard_normal(shape(array)).astype(np.float32)
        for array in (*letters.split(','), given)
    )  # type: ignore[return-value]


def with_positive_extremes(x: np.ndarray, shared: tuple[int, ...]) -> np.ndarray:
    """-127.5 steps become -127 or -128 as their division is rounded, 127.5 always 127."""
    return np.where(np.abs(x) == np.abs(x).max(axis=shared, keepdims=True), np.abs(x), x)


def in_format(x: np.ndarray, format: str, shared: tuple[int, ...] | None) -> np.ndarray:
    """NumPy's word: x over its largest magnitude, rounded to nearest even, and back."""
    largest = np.abs(x).max(axis=shared, keepdims=True)
    if format == 'int8':
        scale = (largest / np.float32(127.5)).astype(np.float32)
        return np.clip(np.rint(x / scale), -128, 127) * scale
    dtype = np.dtype(getattr(ml_dtypes, format))
    scale = (largest / float(ml_dtypes.finfo(dtype).max)).astype(np.float32)
    return (x / scale).astype(dtype).astype(np.float32) * scale


@pytest.mark.parametrize('policy', ['int8_qat', 'int8_weight_only', 'fp8'])
@pytest.mark.parametrize(('equation', 'dims'), EQUATIONS)
def test_a_product_and_its_gradients_are_those_of_rounded_factors(
    equation: str, dims: str, policy: str
) -> None:
    how = POLICIES[policy].quantization
    assert how is not None
    x, weight, gradient = factors(equation)
    letters, given = equation.split('->')
    left, right = letters.split(',')
    summed = tuple(i for i, letter in enumerate(left) if letter in right)
    own = tuple(i for i, letter in enumerate(right) if letter in left)
    x, weight = with_positive_extremes(x, summed), with_positive_extremes(weight, own)
    x_8 = x if how.inputs is None else in_format(x, how.inputs, summed)
    weight_8, back = in_format(weight, how.weights, own), gradient
    x_back, weight_back = x_8, weight_8
    if how.gradients is not None:
        x_back, weight_back = (in_format(a, how.weights, None) for a in (x, weight))
        back = in_format(gradient, how.gradients, None)
    made, pull = jax.vjp(
        lambda x, w: product(equation, x, w, dims, how), jnp.asarray(x), jnp.asarray(weight)
    )
    wide = np.float64
    expected = (
        np.einsum(equation, x_8.astype(wide), weight_8),
        np.einsum(f'{given},{right}->{left}', back.astype(wide), weight_back),
        np.einsum(f'{left},{given}->{right}', x_back.astype(wide), back),
    )
    for found, right_one in zip((made, *pull(jnp.asarray(gradient))), expected, strict=True):
        np.testing.assert_allclose(found, right_one, atol=2e-5 * np.abs(right_one).max())


@pytest.mark.parametrize(
    ('policy', 'forwards', 'backwards'),
    [
        ('int8_qat', {('i8', 'i8')}, {('bf16', 'bf16')}),
        ('int8_weight_only', {('bf16', 'bf16')}, {('bf16', 'bf16')}),
        ('fp8', {('f8E4M3FN', 'f8E4M3FN')}, {('f8E5M2', 'f8E4M3FN'), ('f8E4M3FN', 'f8E5M2')}),
    ],
)
def test_formats_in_the_program(
    policy: str, forwards: set[tuple[str, str]], backwards: set[tuple[str, str]]
) -> None:
    from tests.precision.test_policy import operands

    how = POLICIES[policy].quantization
    assert how is not None
    x, weight, gradient = (jnp.asarray(a, jnp.bfloat16) for a in factors('BTD,DF->BTF'))

    def forward(x: jax.Array, weight: jax.Array) -> jax.Array:
        return product('BTD,DF->BTF', x, weight, 'DF', how)

    def both(x: jax.Array, weight: jax.Array) -> object:
        return jax.vjp(forward, x, weight)[1](gradient)

    ordered = {tuple(sorted(pair)) for pair in operands(jax.jit(forward).lower(x, weight))}
    assert ordered == {tuple(sorted(pair)) for pair in forwards}
    found = {tuple(sorted(pair)) for pair in operands(jax.jit(both).lower(x, weight))}
    assert found == {tuple(sorted(pair)) for pair in backwards}


def test_a_weight_that_is_int8_already_multiplies_as_its_floats_do() -> None:
    how = POLICIES['int8_qat'].quantization
    assert how is not None
    x, weight, _ = map(jnp.asarray, factors('BTD,DF->BTF'))
    small = quantized(weight, 'int8', shared_axes('DF'))
    assert small.qvalue.dtype == jnp.int8
    np.testing.assert_array_equal(
        product('BTD,DF->BTF', x, small, 'DF', how), product('BTD,DF->BTF', x, weight, 'DF', how)
    )
    only = POLICIES['int8_weight_only'].quantization
    assert only is not None
    np.testing.assert_array_equal(
        product('BTD,DF->BTF', x, small, 'DF', only), product('BTD,DF->BTF', x, weight, 'DF', only)
    )


def test_rounding_passes_the_gradient() -> None:
    x = jnp.linspace(-1, 1, 12).reshape(3, 4)
    made, pull = jax.vjp(lambda x: rounded(x, 'float32', 'int8', (1,)), x)
    np.testing.assert_allclose(made, in_format(np.asarray(x), 'int8', (1,)), atol=1e-6)
    assert np.abs(made - x).max() > 1e-4
    np.testing.assert_array_equal(pull(x)[0], x)


@pytest.mark.parametrize('format', ['int8', 'float8_e4m3fn', 'float8_e5m2'])
def test_zeros_stay_zeros(format: str) -> None:
    made = dequantized(quantized(jnp.zeros((3, 4)), format, (0,)), jnp.float32)
    np.testing.assert_array_equal(made, 0)


@pytest.mark.parametrize(
    ('dims', 'axes'),
    [
        ('DF', (0,)), ('LDF', (1,)), ('LDHK', (1,)), ('LHKD', (1, 2)), ('DV', (0,)), ('VD', (1,)),
        ('PD', (1,)), ('YD', (1,)), ('DD', (0,)), ('LDQD', (1,)), ('IDF', (1,)),
    ],
)  # fmt: skip
def test_a_scale_is_shared_along_what_a_product_sums_over(dims: str, axes: tuple[int, ...]) -> None:
    assert shared_axes(dims) == axes and rounds(dims)


@pytest.mark.parametrize('dims', ['D', 'LD', 'LHK', 'LF', 'LQD', 'RH', 'V'])
def test_norms_and_biases_are_not_rounded(dims: str) -> None:
    assert not rounds(dims)


def test_one_scale_for_all_is_that_of_the_largest() -> None:
    x = jnp.asarray([[1.0, 2.0], [4.0, -8.0]])
    assert quantized(x, 'int8', None).scale.reshape(()) == pytest.approx(8 / 127.5)
    assert quantized(x, 'int8', (1,)).scale[:, 0] == pytest.approx(np.array([2, 8]) / 127.5)


def test_formats_of_policies() -> None:
    with_8 = {name: p.quantization for name, p in POLICIES.items() if p.quantization}
    assert with_8 == {
        'int8_qat': Quantization('int8', 'int8', None, 'int8'),
        'int8_weight_only': Quantization('int8', None, None, 'int8'),
        'fp8': Quantization('float8_e4m3fn', 'float8_e4m3fn', 'float8_e5m2', None),
    }
