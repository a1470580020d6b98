"""How tokens are written in pictures."""

from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

INK, GREY, PALE, ACCENT = '#222222', '#666666', '#b5b9c0', '#b3263a'
LONGEST = 16
"""Letters of a token that a picture shows."""


def drawable(words: str) -> str:
    """The words, with what the pictures' font lacks written as its code point."""
    known = _characters()
    return ''.join(c if ord(c) in known and c.isprintable() else f'\\u{ord(c):04x}' for c in words)


def short(token: str) -> str:
    """A token as it is drawn: of a long one the beginning."""
    words = drawable(token)
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + '\u2026'


def inches_of(tokens: Sequence[str], size: float) -> float:
    """Inches that the longest of the tokens takes in letters of so many points."""
    return 0.0095 * size * max(len(short(token)) for token in tokens) + 0.08


@cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())
