"""Numbers without rounding: read from a text, and written as decimals."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction

from lm.errors import UserError
from lm.fields import require

WORDS = {
    'pi': '3.14159265358979323846264338327950288419716939937510',
    'e': '2.71828182845904523536028747135266249775724709369995',
}
"""The first 50 decimals of numbers that have no last one."""
MOST = 400
"""Of characters, and of an exponent; fp64, the widest format, ends at 1e308 and 1e-324."""


def exact_number(name: str, text: str) -> Fraction:
    """The number that `text` writes: `pi`, `e`, `3.14`, `1e-8` or `1/3`.

    Args:
      name: what is given so, for the error.
      text: as typed.

    Raises:
      UserError: it is no such number, it is too long, or its exponent is too large.
    """
    require(len(text) <= MOST, f'{name}={text[:20]}...: give at most {MOST} characters')
    parts = _decimals(WORDS.get(text, text))
    if not parts:
        known = f'3.14, 1e-8 or 1/3, or one of {", ".join(WORDS)}'
        raise UserError(f'{name}={text}: must be a number such as {known}')
    for part in parts:
        require(abs(part.adjusted()) <= MOST, f'{name}={text}: give exponents of at most {MOST}')
    above, below = (*parts, Decimal(1))[:2]
    return Fraction(above) / Fraction(below)


def _decimals(text: str) -> list[Decimal]:
    """A number, or those above and below a stroke; none where the text is neither.

    Decimals, for these hold 1e999999999 in a few bytes, where a fraction would write it out.
    """
    try:
        parts = [Decimal(part) for part in text.split('/')]
    except InvalidOperation:
        return []
    divides = len(parts) == 1 or (len(parts) == 2 and parts[1] != 0)
    return parts if divides and all(part.is_finite() for part in parts) else []


def decimal_text(x: Fraction) -> str:
    """All digits of `x`, or `n/d` where they have no end."""
    exactly = Context(prec=4 * MOST, traps=[Inexact])
    try:
        return f'{exactly.divide(Decimal(x.numerator), Decimal(x.denominator)):f}'
    except Inexact:
        return f'{x.numerator}/{x.denominator}'


def short_text(x: Fraction, digits: int = 4) -> str:
    """`x` to so many digits, whole numbers below a million to all; it may exceed any float."""
    if x.denominator == 1 and abs(x) < 1_000_000:
        return str(x)
    rounding = Context(prec=digits)
    rounded = rounding.divide(Decimal(x.numerator), Decimal(x.denominator)).normalize(rounding)
    return f'{rounded:f}' if -4 <= rounded.adjusted() < 6 else f'{rounded:e}'
