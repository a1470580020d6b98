"""A drawing on which everything is placed by hand, in inches from the upper left corner."""

from typing import TypeAlias

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INK, GREY, LINE = '#222222', '#666666', '#dddddd'
FONT_WIDTH = 0.0085
"""Inches that a character takes on average, for each point of its size."""

Colour: TypeAlias = str | tuple[float, float, float]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, width, height."""


class Sheet:
    """A white sheet; `figure` saves it.

    Args:
      width, height: in inches.
    """

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height), facecolor='white')
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set(xlim=(0, width), ylim=(height, 0))
        self._axes.axis('off')

    def box(self, box: Box, fill: Colour, *, edge: Colour = 'white', hatched: bool = False) -> None:
        """A rectangle; a hatched one has lines in the colour of its edge."""
        left, top, width, height = box
        hatch = '////' if hatched else None
        self._axes.add_patch(
            Rectangle((left, top), width, height, fc=fill, ec=edge, lw=0.7, hatch=hatch)
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        colour: Colour = INK,
        *,
        align: str = 'left',
        bold: bool = False,
    ) -> None:
        """Words of a size in points, with their middle at the height `y`."""
        weight = 'bold' if bold else 'normal'
        self._axes.text(x, y, words, size=size, color=colour, ha=align, va='center', weight=weight)

    def rule(self, left: float, right: float, y: float) -> None:
        """A thin line across."""
        self._axes.plot([left, right], [y, y], color=LINE, lw=0.8)


def lightened(colour: Colour, white: float) -> Colour:
    """A colour mixed with white, of which it then has this share."""
    red, green, blue = (1 - (1 - part) * (1 - white) for part in to_rgb(colour))
    return red, green, blue
