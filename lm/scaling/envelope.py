"""Approach 1: the lower envelope of learning curves, by compute.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556,
    section 3.1: the best run at each compute.
  McLeish et al. 2025, Gemstones, arXiv 2502.06857: the same by the lower convex hull, which a lucky
    point or a dense grid of runs sways less.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from lm.errors import UserError
from lm.scaling.frontier import Frontier, Optimum, laws
from lm.scaling.runs import Points, Runs


@dataclass(frozen=True)
class EnvelopeFit(Frontier):
    """N*(C) and D*(C) through the hull's points.

    Args:
      params_law: N*(C).
      tokens_law: D*(C).
      optima: the hull's points, by C.
      owners: the name of the run that each belongs to; None where runs have no names.
    """

    owners: tuple[str, ...] | None


def fit_envelope(curves: Runs) -> EnvelopeFit:
    """Regresses ln N and ln D on ln C over the lower convex hull of (ln C, ln L).

    The hull ends at the least loss: what costs more and is worse is no envelope.

    Args:
      curves: points along training, of several sizes.

    Raises:
      UserError: all points are of one size, or fewer than two are on the hull.
    """
    if len(np.unique(curves.params)) < 2:
        raise UserError(
            f'params: all points are of N = {curves.params[0]:.6g}; '
            'give learning curves of at least two sizes'
        )
    # 6 N D of one budget differ in their last digits, which would be a cliff in the hull.
    hull = lower_hull(np.round(np.log(curves.compute), 6), np.log(curves.losses))
    if len(hull) < 2:
        raise UserError(
            'loss: the least is at the least compute, which leaves one point on the envelope; '
            'give learning curves whose losses fall'
        )
    points = curves.where(hull)
    columns = (points.compute, points.params, points.tokens, points.losses)
    optima = tuple(Optimum(*(float(x) for x in row)) for row in zip(*columns, strict=True))
    return EnvelopeFit(*laws(optima), optima, points.run)


def lower_hull(x: Points, y: Points) -> Int64[np.ndarray, ' hull']:
    """Indices of the lower convex hull's vertices, by x, up to the least y."""
    hull: list[int] = []
    for i in np.lexsort((y, x)).tolist():
        while len(hull) >= 2 and not _turns_up(x, y, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    indices = np.array(hull, np.int64)
    return indices[: int(np.argmin(y[indices])) + 1]


def _turns_up(x: Points, y: Points, first: int, middle: int, last: int) -> bool:
    """Whether the middle point lies under the line from the first to the last."""
    rise = (y[middle] - y[first]) * (x[last] - x[first])
    return bool(rise < (y[last] - y[first]) * (x[middle] - x[first]))
