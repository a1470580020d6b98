"""Products with weights in formats of 8 bits, by qwix: the factors are rounded, then multiplied.

The products are `dot_general` of int8 or fp8 arrays in the compiled program; scales multiply what
they give. Nothing here holds state: a scale is of the array at hand.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import qwix
from jax.typing import DTypeLike

from lm.precision.policy import Quantization
from lm.shapes import is_matrix, space_axes

QArray: TypeAlias = qwix.QArray
"""Rounded numbers, `qvalue`, and the fp32 `scale` that they are to be multiplied with, of as many
axes; of size 1 where a scale is shared."""

Factor: TypeAlias = jax.Array | QArray
"""Of a product: float, or quantized."""

ROWS = 'VPY'
"""Letters of what is looked up by row: tokens, positions, token types. A row shares a scale."""


def shared_axes(dims: str) -> tuple[int, ...]:
    """The axes of a weight along which a scale is shared: those that a product sums over.

    Of a table the axis of its vectors, so that a row that is looked up has a scale, which as a
    head's is that of a logit.

    Args:
      dims: the letters of a matrix, with or without those that it is stacked along.
    """
    first, second = space_axes(dims)
    return second if dims[first[0]] in ROWS else first


def rounds(dims: str) -> bool:
    """Whether a parameter is one that quantization rounds: the matrices, no norm and no bias."""
    return is_matrix(dims) and len(space_axes(dims)) == 2


def quantized(x: jax.Array, format: DTypeLike, shared: tuple[int, ...] | None) -> QArray:
    """`x` rounded to nearest in a format of 8 bits, times a scale in fp32.

    Args:
      x: any float dtype.
      format: `int8`, `float8_e4m3fn` or `float8_e5m2`. Of int8 the largest magnitude stands for
        127.5 steps, which are cut to 127: its step is as wide as all others.
      shared: axes along which a scale is shared; None: one scale for all of it.
    """
    own = () if shared is None else tuple(a for a in range(x.ndim) if a not in shared)
    made: QArray = qwix.quantize(
        x.astype(jnp.float32), jnp.dtype(format), channelwise_axes=own, scale_dtype=jnp.float32
    )
    return made


def dequantized(x: QArray, dtype: DTypeLike) -> jax.Array:
    """The numbers that a quantized array stands for, computed in fp32 and rounded to `dtype`."""
    return qwix.dequantize(x).astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def rounded(x: jax.Array, dtype: DTypeLike, format: str, shared: tuple[int, ...]) -> jax.Array:
    """`x`, first rounded to `dtype`, as it would be once quantized; in its own dtype.

    Its gradient is that of what it gives: the straight-through estimator (Bengio et al. 2013,
    section 3.1).
    """
    return dequantized(quantized(x.astype(dtype), format, shared), x.dtype)


rounded.defvjp(
    lambda x, dtype, format, shared: (rounded(x, dtype, format, shared), None),
    lambda dtype, format, shared, kept, gradient: (gradient,),
)


class Letters(NamedTuple):
    """An equation's letters, of its factors and of what it gives."""

    x: str
    weight: str
    given: str

    @classmethod
    def of(cls, equation: str) -> 'Letters':
        """Of `BTD,DF->BTF`: `BTD`, `DF` and `BTF`."""
        factors, given = equation.split('->')
        x, weight = factors.split(',')
        return cls(x, weight, given)


def product(equation: str, x: jax.Array, weight: Factor, dims: str, how: Quantization) -> jax.Array:
    """A product with a quantized weight, in the dtype of `x`.

    Args:
      equation: such as `BTD,DF->BTF`, no letter of it twice in an array.
      x: float; quantized where `how` says so.
      weight: float; or quantized already, which has no gradient.
      dims: the weight's letters.
      how: the formats.
    """
    if not isinstance(weight, jax.Array):
        return _multiplied(equation, _input(equation, x, how), weight, x.dtype)
    return _product(equation, dims, how, x, weight)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _product(
    equation: str, dims: str, how: Quantization, x: jax.Array, weight: jax.Array
) -> jax.Array:
    x_8, weight_8 = _input(equation, x, how), _weight(weight, dims, how)
    return _multiplied(equation, x_8, weight_8, x.dtype)


def _forward(
    equation: str, dims: str, how: Quantization, x: jax.Array, weight: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # The factors as they were, not as they are rounded: x is kept anyway, once for all that read
    # it, and a gathered weight is not kept at all (`SAVED` in lm/models/layers.py).
    return _product(equation, dims, how, x, weight), (x, weight)


def _backward(
    equation: str,
    dims: str,
    how: Quantization,
    kept: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    letters = Letters.of(equation)
    to_x = f'{letters.given},{letters.weight}->{letters.x}'
    to_weight = f'{letters.x},{letters.given}->{letters.weight}'
    back: Factor = gradient
    if how.inputs is None or how.gradients is None:
        x_8, weight_8 = _input(equation, x, how), _weight(weight, dims, how)
    else:
        # These sum over what has scales of its own forwards, tokens and outputs.
        x_8, weight_8 = quantized(x, how.inputs, None), quantized(weight, how.weights, None)
        back = quantized(gradient, how.gradients, None)
    return (
        _multiplied(to_x, back, weight_8, x.dtype),
        _multiplied(to_weight, x_8, back, weight.dtype),
    )


_product.defvjp(_forward, _backward)


def _input(equation: str, x: jax.Array, how: Quantization) -> Factor:
    if how.inputs is None:
        return x
    letters = Letters.of(equation)
    summed = tuple(i for i, letter in enumerate(letters.x) if letter not in letters.given)
    return quantized(x, how.inputs, summed)


def _weight(weight: jax.Array, dims: str, how: Quantization) -> QArray:
    return quantized(weight, how.weights, shared_axes(dims))


def _multiplied(equation: str, x: Factor, y: Factor, dtype: DTypeLike) -> jax.Array:
    """A product in `dtype`: in the formats of both where both are quantized, else in `dtype`."""
    if isinstance(x, jax.Array) or isinstance(y, jax.Array):
        plain = (z if isinstance(z, jax.Array) else dequantized(z, dtype) for z in (x, y))
        return jnp.einsum(equation, *plain)
    letters = Letters.of(equation)
    summed = [letter for letter in letters.x if letter in letters.weight]
    axes = ([letters.x.index(a) for a in summed], [letters.weight.index(a) for a in summed])
    made = qwix.dot_general(x, y, (tuple(map(tuple, axes)), ((), ())))
    order = [a for a in letters.x + letters.weight if a not in summed]
    return jnp.transpose(made, [order.index(a) for a in letters.given]).astype(dtype)
