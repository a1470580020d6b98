"""Shows the number formats side by side, and what a number becomes in each.

For fp64 to 4 bits: bits of exponent and fraction, range, the step at 1, memory for so many
parameters; and of pi (`--value`) the bits, the exact value that they stand for, and its error. All
of it is exact arithmetic; needs no accelerator and no jax. `--output=FILE.png` draws the bits.
"""

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from lm.errors import UserError
from lm.fields import require
from lm.flags import Flags
from lm.precision.exact import decimal_text, exact_number, short_text
from lm.precision.formats import FORMATS
from lm.precision.stored import Stored, stored

from ._files import require_ending, require_writable
from ._formats_text import as_text


def define_flags(flags: Flags) -> None:
    """Which number, and how it is shown."""
    flags.define('value', str, 'pi', 'the number to store: pi, e, 3.14, 1e-8 or 1/3')
    flags.define('params', float, 1e9, 'a number of parameters, whose memory is told')
    flags.define('absmax', str, '4', 'the largest number that int8 and int4 are scaled for')
    flags.define('output', str, '', 'FILE.svg or FILE.png, a picture of the bits')
    flags.define('json', bool, False, 'print one JSON object')


def main(flags: Flags) -> None:
    """Prints the tables, after drawing the picture that was asked for."""
    value, absmax = flags.required('value'), flags.required('absmax')
    params = flags['params']
    number, largest = exact_number('--value', value), exact_number('--absmax', absmax)
    require(largest > 0, f'--absmax={absmax}: must be positive')
    require(params > 0, f'--params={params:g}: must be positive')
    found = [stored(number, each, largest) for each in FORMATS.values()]
    if flags['output']:
        _draw(flags['output'], value, found, params)
    if flags['json']:
        print(json.dumps(as_json(value, found, params)))
    else:
        print(as_text(value, found, params, absmax))


def as_json(name: str, found: Sequence[Stored], params: float) -> dict[str, Any]:
    """The tables as one object, by format.

    What a float cannot hold is a text: exact values with all their digits (or as n/d), errors with
    17. What integers can hold is in steps of their `scale`, which is 1 for floats. The error of
    inf and nan is null.
    """
    return {
        'value': name,
        'params': params,
        'formats': {each.format.name: _format_json(each, params) for each in found},
    }


def _format_json(each: Stored, params: float) -> dict[str, Any]:
    kind = each.format
    return {
        'dtype': kind.dtype,
        'bits': kind.bits,
        'exponent_bits': kind.exponent_bits,
        'fraction_bits': kind.fraction_bits,
        'max': float(kind.max),
        'smallest_normal': float(kind.smallest_normal),
        'smallest_subnormal': float(kind.smallest_subnormal),
        'epsilon': float(kind.epsilon),
        'has_inf': kind.has_inf,
        'has_nan': kind.has_nan,
        'bytes_each': kind.bytes_each,
        'memory_bytes': params * kind.bytes_each,
        'stored': _stored_json(each),
    }


def _stored_json(each: Stored) -> dict[str, Any]:
    sign, exponent, fraction = each.fields
    return {
        'sign': sign,
        'exponent': exponent,
        'fraction': fraction,
        'hex': each.hexadecimal,
        'scale': decimal_text(each.scale),
        'exact': decimal_text(each.value) if isinstance(each.value, Fraction) else str(each.value),
        'absolute_error': _error_json(each.absolute_error),
        'relative_error': _error_json(each.relative_error),
        'outcome': each.outcome,
    }


def _error_json(error: Fraction | None) -> str | None:
    return None if error is None else short_text(error, 17)


def _draw(path: str, name: str, found: Sequence[Stored], params: float) -> None:
    require_ending('output', path, ('.svg', '.png'))
    require_writable('output', path)
    from ._formats_picture import picture  # matplotlib takes longer than all else

    try:
        picture(name, found, params, path)
    except OSError as error:
        raise UserError(f'--output={path}: cannot be written ({error.strerror})') from error
