"""What `lm formats` prints: the formats, the bits of a number in each, and its errors."""

from collections.abc import Sequence
from fractions import Fraction

from lm.planning.advice import gigabytes
from lm.precision.exact import WORDS, decimal_text, short_text
from lm.precision.formats import FORMATS
from lm.precision.stored import Stored

LONGEST = 52
"""Characters of an exact value; a longer one is rounded, and --json has it whole."""
CAN_HOLD = (
    'format', 'dtype', 'exponent', 'fraction', 'largest', 'smallest normal', 'smallest',
    'step at 1', 'inf', 'nan', 'bytes',
)  # fmt: skip


def as_text(name: str, found: Sequence[Stored], params: float, absmax: str) -> str:
    """Three tables and what they take for granted.

    Args:
      name: the number that is stored, as the user wrote it.
      found: that number in each format.
      params: of a model, whose memory is told.
      absmax: the largest number that integers are scaled for, as the user wrote it.
    """
    memory = [*CAN_HOLD, f'{params:g} parameters']
    becomes = f'{name} = {WORDS[name]}... becomes' if name in WORDS else f'{name} becomes'
    return '\n\n'.join(
        [
            _table(memory, [_can_hold(each, params) for each in found]),
            becomes,
            _table(('format', 'sign|exponent|fraction', 'hex'), [_bits(each) for each in found]),
            _table(
                ('format', 'stored exactly', 'error', 'relative', ''),
                [_errors(each) for each in found],
            ),
            _notes(absmax),
        ]
    )


def value_text(stored: Stored) -> str:
    """What is stored: all its digits, n/d, inf or nan; rounded after ~ where it is very long."""
    if not isinstance(stored.value, Fraction):
        return str(stored.value)
    whole = decimal_text(stored.value)
    if '/' in whole:
        whole = f'{whole} ~ {short_text(stored.value, 12)}'
    return whole if len(whole) <= LONGEST else f'~{short_text(stored.value, 40)}'


def error_text(error: Fraction | None) -> str:
    """Four digits, or a dash where there is no error to tell."""
    return '-' if error is None else short_text(error)


def _can_hold(stored: Stored, params: float) -> tuple[str, ...]:
    each, scale = stored.format, stored.scale
    quantities = (each.max, each.smallest_normal, each.smallest_subnormal, each.epsilon)
    return (
        each.name,
        each.dtype or '-',
        str(each.exponent_bits),
        str(each.fraction_bits),
        *(short_text(quantity * scale) for quantity in quantities),
        'yes' if each.has_inf else 'no',
        'yes' if each.has_nan else 'no',
        f'{each.bytes_each:g}',
        gigabytes(params * each.bytes_each),
    )


def _bits(stored: Stored) -> tuple[str, ...]:
    fields = '|'.join(field for field in stored.fields if field)
    return stored.format.name, fields, stored.hexadecimal


def _errors(stored: Stored) -> tuple[str, ...]:
    errors = (error_text(stored.absolute_error), error_text(stored.relative_error))
    return stored.format.name, value_text(stored), *errors, stored.outcome


def _notes(absmax: str) -> str:
    steps = [f'absmax/{each.max} for {each.name}' for each in FORMATS.values() if each.is_integer]
    return '\n'.join(
        [
            'GB = 1e9 bytes. Every format has a sign bit. Rounded to the nearest, ties to even.',
            f'Integers count steps of a scale, {" and ".join(steps)} (absmax = {absmax}), kept once'
            ' for many numbers',
            'and not counted here; what is larger than absmax is cut off. Their fraction bits are'
            " those of the count, in two's complement.",
            'tf32 is what tensor cores read of an fp32, which lies in memory. 4-bit numbers lie two'
            ' to a byte.',
        ]
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heading, *rows)
    ]
    return '\n'.join(lines)
