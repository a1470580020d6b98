"""What a number becomes in a format: its bits, the value they stand for, and the error."""

import math
from dataclasses import dataclass
from fractions import Fraction

from lm.precision.formats import NumberFormat


@dataclass(frozen=True)
class Stored:
    """A number in a format.

    Attributes:
      true: the number itself.
      format: what it is stored in.
      scale: what is stored is the number divided by this; 1 for floats.
      pattern: the bits, as a whole number.
      value: what they stand for, exactly; a float only where that is inf, -inf or nan.
    """

    true: Fraction
    format: NumberFormat
    scale: Fraction
    pattern: int
    value: Fraction | float

    @property
    def fields(self) -> tuple[str, str, str]:
        """Bits of the sign, the exponent and the fraction, as 0 and 1."""
        bits, after_sign = f'{self.pattern:0{self.format.bits}b}', 1 + self.format.exponent_bits
        return bits[:1], bits[1:after_sign], bits[after_sign:]

    @property
    def hexadecimal(self) -> str:
        """The pattern, as a dump of memory shows it: of tf32 the fp32 in which it lies."""
        bits = round(8 * self.format.bytes_each)
        return f'0x{self.pattern << (bits - self.format.bits):0{bits // 4}X}'

    @property
    def absolute_error(self) -> Fraction | None:
        """How far the value is from the number; None for inf and nan."""
        return abs(self.value - self.true) if isinstance(self.value, Fraction) else None

    @property
    def relative_error(self) -> Fraction | None:
        """The same as a part of the number; None for inf and nan, and 0 of 0."""
        error = self.absolute_error
        return error and error / abs(self.true)

    @property
    def outcome(self) -> str:
        """What happened to the number, in a word or a few."""
        if not isinstance(self.value, Fraction):
            return f'too large: {self.value}'
        if self.value == self.true:
            return 'exact'
        if self.value == 0:
            return 'too small: 0'
        if not self.format.has_nan and abs(self.true) > self.format.max * self.scale:
            return 'too large: cut off'
        small = abs(self.value) < self.format.smallest_normal * self.scale
        return 'rounded, subnormal' if small else 'rounded'


def stored(x: Fraction, format: NumberFormat, absmax: Fraction) -> Stored:
    """Stores `x`, rounded once to the nearest, ties to even.

    That is what NumPy, XLA and IEEE 754 do. tf32 alone is rounded otherwise by hardware: ties
    away from zero by PTX's `cvt.rna`, towards zero where a tensor core is given plain fp32.

    Args:
      x: any number.
      format: what to store it in. What is too large becomes inf; in a format without inf, nan;
        in one without either, the largest number.
      absmax: for integers, the largest number that the scale is made for; it is stored as the
        largest whole number. Floats have no scale.
    """
    if format.is_integer:
        scale = absmax / format.max
        whole = round(max(-format.max, min(format.max, x / scale)))
        return Stored(x, format, scale, whole % 2**format.bits, whole * scale)
    size, sign = _rounded(abs(x), format), x < 0
    value = _value(size, format)
    pattern = size | sign << (format.bits - 1)
    return Stored(x, format, Fraction(1), pattern, -value if sign else value)


def _rounded(x: Fraction, format: NumberFormat) -> int:
    """The pattern, without its sign, of the float nearest to `x`, which is not negative."""
    if x == 0:
        return 0
    lowest = _exponent(format.smallest_normal)
    exponent = max(_exponent(x), lowest)
    # A fraction that is rounded up to 2 carries into the exponent, as it should.
    steps = round(x / _power(exponent - format.fraction_bits))
    pattern = ((exponent - lowest) << format.fraction_bits) + steps
    return min(pattern, _beyond(format))


def _beyond(format: NumberFormat) -> int:
    """The pattern of all that is too large: inf, or nan, or the largest number."""
    ones = 2 ** (format.bits - 1) - 1
    if format.has_inf:
        return ones - (2**format.fraction_bits - 1)
    return ones


def _value(pattern: int, format: NumberFormat) -> Fraction | float:
    """What the pattern of a float without sign stands for."""
    if format.has_nan and pattern == _beyond(format):
        return math.inf if format.has_inf else math.nan
    exponent, fraction = divmod(pattern, 2**format.fraction_bits)
    if exponent == 0:
        return fraction * format.smallest_subnormal
    return (1 + fraction * format.epsilon) * format.smallest_normal * _power(exponent - 1)


def _exponent(x: Fraction) -> int:
    """The largest e with 2^e <= x, of a positive number."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if _power(guess) <= x else guess - 1


def _power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent
