"""Where in ln N a budget's losses are lowest: the parabola, and what does not share its bias.

At a fixed C = 6 N D the law E + A / N^alpha + B / D^beta is, in x = ln N,
E + A' exp(-alpha x) + B' exp(beta x). It is no parabola: its two sides differ, and a parabola's
vertex lies off its minimum by an amount that grows with the range of N.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from lm.scaling.runs import Points

EXPONENTS = (0.02, 3.0)
"""What alpha and beta are searched within."""
FIRST_EXPONENTS = ((0.35, 0.35), (0.15, 0.6), (0.6, 0.15), (1.0, 1.0), (0.1, 0.1))


@dataclass(frozen=True)
class Slice:
    """The points of one budget, sizes as ln N."""

    flops: float
    x: Points
    losses: Points
    log_tokens: Points

    @property
    def sizes(self) -> int:
        """How many different N there are."""
        return len(np.unique(self.x))

    def within(self, factor: float) -> 'Slice':
        """The points whose N is within a factor of the best point's."""
        keep = np.abs(self.x - self.x[self.losses.argmin()]) <= math.log(factor) * (1 + 1e-12)
        return Slice(self.flops, self.x[keep], self.losses[keep], self.log_tokens[keep])

    def tokens_at(self, x: float) -> float:
        """D at a size, by the line through ln D over ln N."""
        away = self.x - self.x.mean()
        slope = (away * (self.log_tokens - self.log_tokens.mean())).sum() / (away**2).sum()
        return math.exp(self.log_tokens.mean() + slope * (x - self.x.mean()))


@dataclass(frozen=True)
class Vertex:
    """A minimum at x = ln N, and the loss there."""

    x: float
    loss: float


def parabola(points: Slice) -> Vertex | str:
    """The vertex of a least-squares parabola in ln N, or why there is none."""
    return polynomial(points, 2)


def parabolas(slices: list[Slice]) -> list[Vertex | str]:
    """A parabola's vertex for each budget."""
    return [parabola(points) for points in slices]


def cubic(points: Slice) -> Vertex | str:
    """The minimum of a least-squares cubic: a first step against the parabola's bias."""
    return polynomial(points, 3)


def polynomial(points: Slice, degree: int) -> Vertex | str:
    """The minimum of a least-squares polynomial in ln N, or why there is none."""
    if points.sizes <= degree:
        return _too_few(points, degree + 1)
    centre = points.x.mean()
    curve = np.polynomial.Polynomial.fit(points.x - centre, points.losses, degree)
    slope, bend = curve.deriv(), curve.deriv(2)
    lowest = [root.real for root in slope.roots() if abs(root.imag) < 1e-12 and bend(root.real) > 0]
    if not lowest:
        return 'losses that curve down, or not at all'
    return inside(points, Vertex(float(lowest[0] + centre), float(curve(lowest[0]))))


def _too_few(points: Slice, needed: int) -> str:
    return f'{points.sizes} size{"s" * (points.sizes != 1)}, fewer than {needed}'


def inside(points: Slice, vertex: Vertex) -> Vertex | str:
    """The vertex, if it lies within the budget's sizes."""
    least, most = float(points.x.min()), float(points.x.max())
    if least < vertex.x < most:
        return vertex
    side = 'below' if vertex.x <= least else 'above'
    return (
        f'minimum at N = {math.exp(min(vertex.x, 700.0)):.3g}, {side} its sizes of '
        f'{math.exp(least):.3g} to {math.exp(most):.3g}'
    )


def exponentials(
    slices: list[Slice], starts: Sequence[tuple[float, float]] = FIRST_EXPONENTS
) -> list[Vertex | str]:
    """Minima of E' + A' exp(-alpha x) + B' exp(beta x), alpha and beta shared by all budgets.

    E', A' and B' are each budget's own and linear, so only alpha and beta are searched for. On
    losses of the law itself the minima are exact, whatever the range of N.

    Args:
      slices: the points of each budget.
      starts: alpha and beta where the searches begin.
    """
    shared = shared_exponents(slices, starts)
    if shared is None:
        return ['too few points for two shared exponents'] * len(slices)
    return [
        _minimum(points, *shared) if points.sizes >= 3 else _too_few(points, 3) for points in slices
    ]


def shared_exponents(
    slices: list[Slice], starts: Sequence[tuple[float, float]] = FIRST_EXPONENTS
) -> tuple[float, float] | None:
    """alpha and beta of `exponentials`; None of too few points."""
    used = [points for points in slices if points.sizes >= 3]
    if sum(points.sizes - 3 for points in used) < 2:
        return None

    def residuals(log_exponents: np.ndarray) -> np.ndarray:
        alpha, beta = np.exp(log_exponents)
        return np.concatenate([_projected(points, alpha, beta)[1] for points in used])

    ends = [
        least_squares(
            residuals, np.log(first), bounds=np.log(EXPONENTS), xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        for first in starts
    ]
    alpha, beta = np.exp(min(ends, key=lambda end: end.cost).x)
    return float(alpha), float(beta)


def _projected(points: Slice, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """E', A', B' by least squares, x from its centre, and the residuals."""
    away = points.x - points.x.mean()
    design = np.stack([np.ones_like(away), np.exp(-alpha * away), np.exp(beta * away)], 1)
    found = np.linalg.lstsq(design, points.losses, rcond=None)[0]
    return found, design @ found - points.losses


def _minimum(points: Slice, alpha: float, beta: float) -> Vertex | str:
    floor, of_n, of_d = _projected(points, alpha, beta)[0]
    if not (of_n > 0 and of_d > 0):
        return 'losses that only fall, or only rise'
    away = math.log(alpha * of_n / (beta * of_d)) / (alpha + beta)
    loss = floor + of_n * math.exp(-alpha * away) + of_d * math.exp(beta * away)
    return inside(points, Vertex(float(points.x.mean() + away), float(loss)))
