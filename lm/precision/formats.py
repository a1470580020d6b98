"""The number formats that models are kept and computed in, side by side. Imports no jax."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class NumberFormat:
    """One way to write a number in bits: a sign, then exponent bits, then fraction bits.

    Of an integer format (no exponent) all quantities are in steps of a scale, which lies beside
    the numbers; negative ones are in two's complement.

    Attributes:
      name: short, as people say it.
      dtype: the name of the type in JAX and NumPy; None where there is none.
      exponent_bits: 0 for integers.
      fraction_bits: those stored; a normal number has one more before the point, always 1.
      bytes_each: what a number takes of a device's memory; 4-bit numbers lie two to a byte.
      max: the largest finite number; of integers so that -max can be stored too.
      smallest_normal: the smallest positive number with all fraction bits to itself.
      smallest_subnormal: the smallest positive number.
      epsilon: the step from 1 to the next larger number.
      has_inf: whether what is too large becomes inf.
      has_nan: whether some pattern is not a number.
    """

    name: str
    dtype: str | None
    exponent_bits: int
    fraction_bits: int
    bytes_each: float
    max: Fraction
    smallest_normal: Fraction
    smallest_subnormal: Fraction
    epsilon: Fraction
    has_inf: bool
    has_nan: bool

    @property
    def bits(self) -> int:
        """All that count: the sign, the exponent, the fraction."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def is_integer(self) -> bool:
        """Whether numbers are whole steps of a scale."""
        return self.exponent_bits == 0


def _float(name: str, dtype: Any) -> NumberFormat:
    info = ml_dtypes.finfo(dtype)
    with np.errstate(all='ignore'):
        inf, nan = np.array([np.inf, np.nan]).astype(dtype).astype(np.float64)
    return NumberFormat(
        name=name,
        dtype=np.dtype(dtype).name,
        exponent_bits=int(info.nexp),
        fraction_bits=int(info.nmant),
        bytes_each=info.bits / 8,
        max=Fraction(float(info.max)),
        smallest_normal=Fraction(float(info.smallest_normal)),
        smallest_subnormal=Fraction(float(info.smallest_subnormal)),
        epsilon=Fraction(float(info.eps)),
        has_inf=bool(np.isinf(inf)),
        has_nan=bool(np.isnan(nan)),
    )


def _shortened(wide: NumberFormat, name: str, fraction_bits: int) -> NumberFormat:
    """A format that lies in memory as `wide` does, of whose fraction the last bits are not read."""
    largest_power = wide.max / (2 - wide.epsilon)
    epsilon = Fraction(1, 2**fraction_bits)
    return replace(
        wide,
        name=name,
        dtype=None,
        fraction_bits=fraction_bits,
        max=(2 - epsilon) * largest_power,
        smallest_subnormal=wide.smallest_normal * epsilon,
        epsilon=epsilon,
    )


def _integer(name: str, dtype: Any) -> NumberFormat:
    info, step = ml_dtypes.iinfo(dtype), Fraction(1)
    return NumberFormat(
        name=name,
        dtype=np.dtype(dtype).name,
        exponent_bits=0,
        fraction_bits=info.bits - 1,
        bytes_each=info.bits / 8,
        max=Fraction(int(info.max)),
        smallest_normal=step,
        smallest_subnormal=step,
        epsilon=step,
        has_inf=False,
        has_nan=False,
    )


FP32 = _float('fp32', np.float32)
TF32 = _shortened(FP32, 'tf32', fraction_bits=10)
"""What NVIDIA's tensor cores read of an fp32 (NVIDIA A100 whitepaper, 2020): 19 of its 32 bits."""

FORMATS: dict[str, NumberFormat] = {
    each.name: each
    for each in (
        _float('fp64', np.float64),
        FP32,
        TF32,
        _float('bf16', ml_dtypes.bfloat16),
        _float('fp16', np.float16),
        _float('fp8_e4m3', ml_dtypes.float8_e4m3fn),
        _float('fp8_e5m2', ml_dtypes.float8_e5m2),
        _float('fp4_e2m1', ml_dtypes.float4_e2m1fn),
        _integer('int8', np.int8),
        _integer('int4', ml_dtypes.int4),
    )
}
"""By name, floats first."""
