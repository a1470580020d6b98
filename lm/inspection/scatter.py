"""Points with names beside them, as many as there is room for."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes

from lm.inspection.embeddings import TokenPoints
from lm.inspection.lettering import ACCENT, GREY, PALE, short

Box: TypeAlias = tuple[float, float, float, float]
"""Left, low, right, high; inches from the lower left corner."""


def scatter(axes: Axes, found: TokenPoints, inches: tuple[float, float]) -> None:
    """Draws tokens into axes of a size in inches; the text's own are all named, others at gaps."""
    points_N2, mine_N = found.points_N2, found.of_text_N
    low, high = points_N2.min(0), points_N2.max(0)
    margin = 0.04 * (high - low) + 1e-9
    axes.set(xlim=(low[0] - margin[0], high[0] + 2 * margin[0]))
    axes.set(ylim=(low[1] - margin[1], high[1] + margin[1]))
    for chosen_N, area, colour in ((~mine_N, 5, PALE), (mine_N, 22, ACCENT)):
        x_N, y_N = points_N2[chosen_N].T
        axes.scatter(x_N, y_N, area, colour, linewidths=0)
    # In inches from the corner, where letters have a size.
    corner = np.array([axes.get_xlim()[0], axes.get_ylim()[0]])
    span = np.array([np.diff(axes.get_xlim())[0], np.diff(axes.get_ylim())[0]])
    places_N2 = (points_N2 - corner) / span * np.array(inches)
    taken: list[Box] = [(x - 0.04, y - 0.04, x + 0.04, y + 0.04) for x, y in places_N2[mine_N]]
    for i in range(len(points_N2)):
        size, words = 10.0 if mine_N[i] else 6.5, short(found.tokens[i])
        spot = _free(places_N2[i], words, size, taken, inches)
        if spot is None and not mine_N[i]:
            continue
        box = spot or _around(places_N2[i], words, size)[0]
        taken.append(box)
        axes.text(
            box[0] / inches[0], (box[1] + box[3]) / 2 / inches[1], words, size=size,
            color=ACCENT if mine_N[i] else GREY, va='center', transform=axes.transAxes,
            weight='bold' if mine_N[i] else 'normal', parse_math=False, zorder=4,
        )  # fmt: skip


def _around(place: np.ndarray, words: str, size: float) -> list[Box]:
    """Where a token may be named, best first: right of its point, left, above, below."""
    width, height = 0.0092 * size * len(words) + 0.02, size / 72 * 1.15
    x, y = float(place[0]), float(place[1])
    corners = [
        (x + 0.06, y - height / 2), (x - 0.06 - width, y - height / 2),
        (x - width / 2, y + 0.06), (x - width / 2, y - 0.06 - height),
    ]  # fmt: skip
    return [(left, low, left + width, low + height) for left, low in corners]


def _free(
    place: np.ndarray,
    words: str,
    size: float,
    taken: Sequence[Box],
    inches: tuple[float, float],
) -> Box | None:
    """The first box beside a point that is inside and covers nothing; None: there is none."""
    for box in _around(place, words, size):
        inside = box[0] > 0 and box[1] > 0 and box[2] < inches[0] and box[3] < inches[1]
        covers = any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
            for other in taken
        )
        if inside and not covers:
            return box
    return None
