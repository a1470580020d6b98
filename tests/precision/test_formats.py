"""Number formats against closed forms, and stored numbers against NumPy's and ml_dtypes' bits."""

import math
import random
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from lm.errors import UserError
from lm.precision.exact import WORDS, decimal_text, exact_number, short_text
from lm.precision.formats import FORMATS, NumberFormat
from lm.precision.stored import Stored, stored

PI = Fraction(WORDS['pi'])
FOUR = Fraction(4)
FLOATS = [each for each in FORMATS.values() if not each.is_integer]
TYPES = {
    'fp64': np.float64,
    'fp32': np.float32,
    'bf16': ml_dtypes.bfloat16,
    'fp16': np.float16,
    'fp8_e4m3': ml_dtypes.float8_e4m3fn,
    'fp8_e5m2': ml_dtypes.float8_e5m2,
    'fp4_e2m1': ml_dtypes.float4_e2m1fn,
}
BITS = {
    # exponent, fraction, bytes
    'fp64': (11, 52, 8),
    'fp32': (8, 23, 4),
    'tf32': (8, 10, 4),
    'bf16': (8, 7, 2),
    'fp16': (5, 10, 2),
    'fp8_e4m3': (4, 3, 1),
    'fp8_e5m2': (5, 2, 1),
    'fp4_e2m1': (2, 1, 0.5),
    'int8': (0, 7, 1),
    'int4': (0, 3, 0.5),
}


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def stored_as(name: str, x: Fraction | int | float) -> Stored:
    return stored(Fraction(x), FORMATS[name], FOUR)


def test_bits_and_bytes() -> None:
    found = {f.name: (f.exponent_bits, f.fraction_bits, f.bytes_each) for f in FORMATS.values()}
    assert found == BITS
    assert [f.bits for f in FORMATS.values()] == [64, 32, 19, 16, 16, 8, 8, 4, 8, 4]


@pytest.mark.parametrize('format', FLOATS, ids=lambda format: format.name)
def test_a_floats_range_in_closed_form(format: NumberFormat) -> None:
    exponent_bits, fraction_bits, _ = BITS[format.name]
    bias = 2 ** (exponent_bits - 1) - 1
    assert format.epsilon == power(-fraction_bits)
    assert format.smallest_normal == power(1 - bias)
    assert format.smallest_subnormal == power(1 - bias - fraction_bits)
    largest = {
        'fp8_e4m3': Fraction(7, 4) * power(8),  # 1.75: all ones is nan, the one below it is not
        'fp4_e2m1': Fraction(3, 2) * power(2),  # every pattern is a number
    }
    assert format.max == largest.get(format.name, (2 - power(-fraction_bits)) * power(bias))
    assert format.has_inf == (format.name not in largest)
    assert format.has_nan == (format.name != 'fp4_e2m1')


@pytest.mark.parametrize(('name', 'largest'), [('int8', 127), ('int4', 7)])
def test_an_integers_range_in_steps(name: str, largest: int) -> None:
    format = FORMATS[name]
    assert format.max == largest
    assert format.epsilon == format.smallest_normal == format.smallest_subnormal == 1
    assert not format.has_inf and not format.has_nan


@pytest.mark.parametrize(
    ('name', 'fields', 'hexadecimal', 'exact'),
    [
        ('fp32', '0 10000000 10010010000111111011011', '0x40490FDB', '3.1415927410125732421875'),
        ('tf32', '0 10000000 1001001000', '0x40490000', '3.140625'),
        ('bf16', '0 10000000 1001001', '0x4049', '3.140625'),
        ('fp16', '0 10000 1001001000', '0x4248', '3.140625'),
        # 1.625 x 2 and 1.5 x 2, by hand; the exponents with a bias of 7, 15 and 1.
        ('fp8_e4m3', '0 1000 101', '0x45', '3.25'),
        ('fp8_e5m2', '0 10000 10', '0x42', '3'),
        ('fp4_e2m1', '0 10 1', '0x5', '3'),
        # pi x 127/4 = 99.7 and pi x 7/4 = 5.498
        ('int8', '0  1100100', '0x64', '400/127'),
        ('int4', '0  101', '0x5', '20/7'),
    ],
)
def test_pi(name: str, fields: str, hexadecimal: str, exact: str) -> None:
    found = stored_as(name, PI)
    assert isinstance(found.value, Fraction)
    assert ' '.join(found.fields) == fields
    assert found.hexadecimal == hexadecimal
    assert decimal_text(found.value) == exact
    assert found.absolute_error == abs(Fraction(exact) - PI)
    assert found.relative_error == abs(Fraction(exact) - PI) / PI
    assert found.outcome == 'rounded'


def test_pi_in_fp64_is_pythons() -> None:
    found = stored_as('fp64', PI)
    assert found.hexadecimal == '0x400921FB54442D18'
    assert found.value == Fraction(math.pi)
    # The error of the double is sin(pi) as a double, to all but its last digits.
    assert found.absolute_error is not None
    assert float(found.absolute_error) == pytest.approx(math.sin(math.pi), rel=1e-12)


def drawn_numbers(format: NumberFormat) -> list[float]:
    """Doubles of all sizes, and of each format its ends, steps and ties."""
    random.seed(0)
    spread = min(format.max.numerator.bit_length() + 3, 1022)
    lowest = -format.smallest_subnormal.denominator.bit_length() - 2
    wide = [math.ldexp(random.uniform(-2, 2), random.randint(lowest, spread)) for _ in range(2000)]
    near = []
    for base in (format.smallest_subnormal, format.smallest_normal, Fraction(1), format.max):
        for step in (format.smallest_subnormal, base * format.epsilon):
            near += [base + step * k / 4 for k in range(-9, 10)]
    # What no double holds is kept for the test of single rounding.
    held = [x for x in near if abs(x) <= FORMATS['fp64'].max and Fraction(float(x)) == x]
    assert len(held) > 20
    return [x for x in wide if math.isfinite(x)] + [
        float(sign * x) for x in held for sign in (1, -1)
    ]


@pytest.mark.parametrize('name', TYPES)
def test_bits_are_numpys(name: str) -> None:
    format, kind = FORMATS[name], TYPES[name]
    numbers = drawn_numbers(format)
    words = {64: np.uint64, 32: np.uint32, 16: np.uint16}.get(format.bits, np.uint8)
    with np.errstate(all='ignore'):
        theirs = np.array(numbers).astype(kind)
    for x, pattern, value in zip(
        numbers, theirs.view(words).tolist(), theirs.astype(np.float64), strict=True
    ):
        found = stored(Fraction(x), format, FOUR)
        assert float(found.value) == value or (math.isnan(found.value) and math.isnan(value)), x
        assert found.pattern == pattern or x == 0, x


@pytest.mark.parametrize('name', ['bf16', 'fp16', 'fp8_e4m3', 'fp8_e5m2', 'fp4_e2m1'])
def test_a_pattern_is_stored_as_itself(name: str) -> None:
    format = FORMATS[name]
    words = np.uint16 if format.bits == 16 else np.uint8
    # All of 8 bits and less; of 16 bits every seventh, which has all exponents and both signs.
    patterns = np.arange(0, 2**format.bits, 7 if format.bits == 16 else 1, dtype=words)
    with np.errstate(invalid='ignore'):
        values = patterns.view(TYPES[name]).astype(np.float64)
    exact = 0
    for pattern, value in zip(patterns.tolist(), values.tolist(), strict=True):
        if math.isfinite(value) and not (value == 0 and pattern):
            found = stored(Fraction(value), format, FOUR)
            assert (found.pattern, found.value, found.outcome) == (pattern, value, 'exact')
            exact += 1
    assert exact > len(patterns) / 2


def test_tf32_is_fp32_rounded_to_ten_bits() -> None:
    random.seed(1)
    for _ in range(2000):
        single = np.float32(math.ldexp(random.uniform(1, 2), random.randint(-120, 120)))
        bits = int(single.view(np.uint32))
        # To nearest, ties to even, as integers: the carry runs into the exponent.
        nearest = (bits + 0xFFF + ((bits >> 13) & 1)) >> 13
        assert stored_as('tf32', float(single)).pattern == nearest
    assert stored_as('tf32', 1 + power(-11)).value == 1
    assert stored_as('tf32', 1 + 3 * power(-11)).value == 1 + power(-9)


def test_a_pattern_in_hexadecimal_has_all_its_digits() -> None:
    tiny = power(-126)
    assert stored_as('fp32', tiny).hexadecimal == '0x00800000'
    assert stored_as('tf32', tiny).hexadecimal == '0x00800000'
    assert stored_as('fp4_e2m1', tiny).hexadecimal == '0x0'


def test_a_number_is_rounded_once() -> None:
    # By way of a double it would be the tie, and go down.
    just_above_a_tie = 1 + power(-8) + power(-80)
    assert float(just_above_a_tie) == 1 + 2**-8
    assert stored_as('bf16', just_above_a_tie).value == 1 + power(-7)


@pytest.mark.parametrize(
    ('name', 'x', 'value', 'outcome'),
    [
        ('fp64', '2e308', 'inf', 'too large: inf'),
        ('fp32', '1e39', 'inf', 'too large: inf'),
        ('fp16', '1e6', 'inf', 'too large: inf'),
        ('fp16', '-1e6', '-inf', 'too large: -inf'),
        ('fp16', '65519', '65504', 'rounded'),
        ('fp16', '65520', 'inf', 'too large: inf'),
        ('fp16', '1e-7', '0.00000011920928955078125', 'rounded, subnormal'),
        ('fp16', '1e-8', '0', 'too small: 0'),
        ('fp8_e4m3', '1e6', 'nan', 'too large: nan'),
        ('fp8_e4m3', '464', '448', 'rounded'),
        ('fp8_e4m3', '464.01', 'nan', 'too large: nan'),
        ('fp8_e5m2', '1e6', 'inf', 'too large: inf'),
        ('fp4_e2m1', '-1e6', '-6', 'too large: cut off'),
        ('fp4_e2m1', '6', '6', 'exact'),
        ('int8', '1e6', '4', 'too large: cut off'),
        ('int8', '5', '4', 'too large: cut off'),
        ('int8', '-4', '-4', 'exact'),
        ('int8', '0.01', '0', 'too small: 0'),
        ('int8', '0.03', '4/127', 'rounded'),
        ('bf16', '0', '0', 'exact'),
    ],
)
def test_what_does_not_fit_is_told(name: str, x: str, value: str, outcome: str) -> None:
    found = stored(exact_number('x', x), FORMATS[name], FOUR)
    finite = isinstance(found.value, Fraction)
    assert (decimal_text(found.value) if finite else str(found.value)) == value
    assert found.outcome == outcome
    assert (found.absolute_error is not None) == (found.relative_error is not None) == finite


@pytest.mark.parametrize('name', ['int8', 'int4'])
def test_integers_are_in_twos_complement_by_their_scale(name: str) -> None:
    format, absmax = FORMATS[name], Fraction(5, 3)
    limit, kind = int(format.max), ml_dtypes.int4 if name == 'int4' else np.int8
    for whole in range(-limit, limit + 1):
        found = stored(whole * absmax / limit, format, absmax)
        assert found.outcome == 'exact'
        assert found.pattern == int(np.array(whole, np.int8).view(np.uint8)) % 2**format.bits
        assert int(np.array(whole).astype(kind)) == whole
    assert stored(absmax * Fraction(5, 2) / limit, format, absmax).value == 2 * absmax / limit


def test_decimals_are_exact() -> None:
    assert decimal_text(power(-149)) == f'{2**-149:.149f}'
    assert decimal_text(power(200)) == str(2**200)
    assert decimal_text(Fraction(-1, 3)) == '-1/3'
    smallest = decimal_text(FORMATS['fp64'].smallest_subnormal)
    assert Fraction(smallest) == power(-1074) and len(smallest) == 1076


@pytest.mark.parametrize(
    ('x', 'text'),
    [
        (Fraction(65504), '65504'),
        (Fraction(0), '0'),
        (Fraction(1, 10000), '0.0001'),
        (Fraction(1, 16384), '6.104e-5'),
        (Fraction(2, 3), '0.6667'),
        (Fraction(10**6), '1e+6'),
        (Fraction(10) ** 400 * 2 / 3, '6.667e+399'),
    ],
)
def test_short_texts(x: Fraction, text: str) -> None:
    assert short_text(x) == text


def test_pi_and_e_have_fifty_decimals() -> None:
    assert {name: len(digits) for name, digits in WORDS.items()} == {'pi': 52, 'e': 52}
    # Machin's formula and the series, summed exactly until the terms are below 1e-60.
    arctan = lambda n: sum(  # noqa: E731
        Fraction((-1) ** k, (2 * k + 1) * n ** (2 * k + 1)) for k in range(45)
    )
    truth = {
        'pi': 16 * arctan(5) - 4 * arctan(239),
        'e': sum(Fraction(1, math.factorial(k)) for k in range(60)),
    }
    for name, value in truth.items():
        assert 0 <= value - exact_number('x', name) < Fraction(1, 10**50)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3.1', Fraction(31, 10)),
        ('-1/3', Fraction(-1, 3)),
        ('1e-8', Fraction(1, 10**8)),
        ('1.5/1e3', Fraction(3, 2000)),
        ('0', Fraction(0)),
    ],
)
def test_a_text_is_read_exactly(text: str, value: Fraction) -> None:
    assert exact_number('x', text) == value


@pytest.mark.parametrize('text', ['', 'tau', 'nan', 'inf', '1/0', '1/', '1/2/3', '1/inf', '0x10'])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f'x={text}: must be a number such as 3.14, 1e-8 or 1/3'):
        exact_number('x', text)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('1e999999999', 'x=1e999999999: give exponents of at most 400'),
        ('1/1e-401', 'give exponents of at most 400'),
        ('0e999999999', 'give exponents of at most 400'),
        ('1' * 401, 'x=11111111111111111111...: give at most 400 characters'),
    ],
)
def test_what_would_fill_the_memory_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        exact_number('x', text)
