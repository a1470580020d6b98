"""The picture of `lm formats`: a row for each format, a box for each bit of the number."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from lm.planning.advice import gigabytes
from lm.precision.exact import WORDS, short_text
from lm.precision.stored import Stored
from lm.training.sheet import GREY, LINE, Colour, Sheet, lightened

from ._formats_text import error_text, value_text

MARGIN, LABEL, VALUE, GAP = 0.4, 1.05, 3.95, 0.35
BIT, BIT_HEIGHT, PITCH = 0.2, 0.24, 0.34
ROWS_TOP = 1.55
"""Inches: of columns across, then of a bit and from bits to the next format's, then from above."""
A_LINE = 32
"""Bits beside each other; fp64 takes two lines."""
COLOURS: dict[str, Colour] = {'sign': '#a23b4a', 'exponent': '#c8742a', 'fraction': '#2f6f9f'}
WIDTH = MARGIN + LABEL + A_LINE * BIT + GAP + VALUE + MARGIN


def picture(name: str, found: Sequence[Stored], params: float, path: str | Path) -> None:
    """Draws the bits of a number in each format.

    Args:
      name: the number, as the user wrote it.
      found: that number in each format, from above down.
      params: of a model, whose memory is told.
      path: the file to write, `.svg` or `.png`.

    Raises:
      OSError: it cannot be written.
    """
    data, path = io.BytesIO(), Path(path)
    kind = path.suffix[1:].lower()
    # As the picture of --describe: text stays text, equal numbers make equal files.
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'lm'}):
        metadata = {'Date': None} if kind == 'svg' else None
        drawn(name, found, params).figure.savefig(data, format=kind, dpi=150, metadata=metadata)
    path.write_bytes(data.getvalue())


def drawn(name: str, found: Sequence[Stored], params: float) -> Sheet:
    """The sheet, not yet a file."""
    sheet = Sheet(WIDTH, ROWS_TOP + sum(map(_height, found)) + 0.2)
    _draw_heading(sheet, name, params)
    top = ROWS_TOP
    for each in found:
        _draw_bits(sheet, each, top)
        _draw_words(sheet, each, params, top)
        top += _height(each)
    return sheet


def _height(stored: Stored) -> float:
    lines = -(-stored.format.bits // A_LINE)
    return lines * BIT_HEIGHT + PITCH


def _draw_heading(sheet: Sheet, name: str, params: float) -> None:
    digits = f'{name} = {WORDS[name]}...' if name in WORDS else name
    sheet.text(MARGIN, 0.4, f'{digits[:70]} in bits', 14, bold=True)
    words = 'Memory is that of {:g} parameters; GB = 1e9 bytes. Pale: bits in memory, not read.'
    sheet.text(MARGIN, 0.7, words.format(params), 9, GREY)
    left, y = MARGIN + LABEL, ROWS_TOP - 0.35
    for part, colour in COLOURS.items():
        sheet.box((left, y - BIT_HEIGHT / 2, BIT, BIT_HEIGHT), lightened(colour, 0.55))
        words = 'fraction, or what an integer counts' if part == 'fraction' else part
        sheet.text(left + BIT + 0.08, y, words, 9)
        left += 1.15
    sheet.text(_value_left(), y, 'what is stored, exactly, and its error', 9, bold=True)


def _draw_bits(sheet: Sheet, stored: Stored, top: float) -> None:
    """Boxes with 0 and 1, and pale ones for what lies in memory and is not read."""
    bits = [
        (digit, lightened(colour, 0.55))
        for digits, colour in zip(stored.fields, COLOURS.values(), strict=True)
        for digit in digits
    ]
    unread = round(8 * stored.format.bytes_each) - stored.format.bits
    for place, (digit, fill) in enumerate([*bits, *[('', '#f4f4f2')] * unread]):
        line, column = divmod(place, A_LINE)
        left, y = MARGIN + LABEL + column * BIT, top + line * BIT_HEIGHT
        sheet.box((left, y, BIT, BIT_HEIGHT), fill, edge='white' if digit else LINE)
        sheet.text(left + BIT / 2, y + BIT_HEIGHT / 2, digit, 8.5, align='center')


def _draw_words(sheet: Sheet, stored: Stored, params: float, top: float) -> None:
    """The name at the left, the value and error at the right, what the format holds below."""
    middle, under = top + BIT_HEIGHT / 2, top + _height(stored) - PITCH + 0.1
    words = stored.outcome
    if stored.absolute_error is not None:
        words += f'; error {error_text(stored.absolute_error)}'
        words += f', relative {error_text(stored.relative_error)}'
    sheet.text(MARGIN, middle, stored.format.name, 10, bold=True)
    sheet.text(MARGIN + LABEL, under, _holds(stored, params), 7.5, GREY)
    sheet.text(_value_left(), middle, value_text(stored), 9)
    sheet.text(_value_left(), middle + 0.2, words, 7.5, GREY)


def _holds(stored: Stored, params: float) -> str:
    each, scale = stored.format, stored.scale
    memory = f'{each.bytes_each:g} byte{"s" * (each.bytes_each > 1)}'
    memory += f', {gigabytes(params * each.bytes_each)}'
    largest, step = short_text(each.max * scale), short_text(each.epsilon * scale)
    if each.is_integer:
        bits = f'1 + {each.fraction_bits} bits'
        return f'{bits}; {memory}; largest {largest} by its scale; step {step} everywhere'
    bits = f'1 + {each.exponent_bits} + {each.fraction_bits} bits'
    return f'{bits}; {memory}; largest {largest}; step at 1: {step}'


def _value_left() -> float:
    return MARGIN + LABEL + A_LINE * BIT + GAP
