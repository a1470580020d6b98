"""Approach 2: the best size of each compute budget, and how it grows with the budget.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556,
    section 3.2: a parabola in ln N for each budget.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from lm.errors import UserError
from lm.scaling.frontier import Frontier, Optimum, laws
from lm.scaling.runs import Runs
from lm.scaling.vertices import Slice, Vertex, cubic, exponentials, parabola, parabolas

SAME_BUDGET = 1.1
"""Without a column `budget`, runs whose C are within this factor of the least belong together."""
WINDOWS = (2, 4, 8)
"""Window rules: parabolas over the points within these factors of the best point's N."""


@dataclass(frozen=True)
class Dropped:
    """A budget without an optimum, and why."""

    flops: float
    reason: str


@dataclass(frozen=True)
class IsoflopFit(Frontier):
    """N*(C) and D*(C) through the budgets' optima.

    Args:
      params_law: N*(C).
      tokens_law: D*(C).
      optima: the bottom of each budget's bowl, by C.
      dropped: budgets that have none within their sizes.
      alternatives: the same by other vertex methods and window rules, by name.
      unavailable: alternatives that found fewer than two optima, and why.
    """

    dropped: tuple[Dropped, ...]
    alternatives: dict[str, 'IsoflopFit'] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def fit_isoflop(runs: Runs) -> IsoflopFit:
    """A parabola in ln N over all points of each budget; vertices outside its sizes are dropped.

    Alternatives: `exponentials`, exact where the law is E + A / N^alpha + B / D^beta; `cubic`; and
    parabolas `within_2x`, `within_4x`, `within_8x` of the best point's N.

    Args:
      runs: several sizes at each of two budgets or more.

    Raises:
      UserError: fewer than two budgets have an optimum.
    """
    slices = slices_of(runs)
    if len(slices) < 2:
        raise UserError(
            f'budget: all runs are of {slices[0].flops:.6g} FLOPs; '
            'give runs of at least two budgets'
        )
    default = through(slices, parabolas(slices))
    if isinstance(default, str):
        raise UserError(
            f'budget: {default}; give budgets whose sizes lie on both sides of the best'
        )
    alternatives, unavailable = {}, {}
    for name, vertices in _other_vertices(slices).items():
        fit = through(slices, vertices)
        if isinstance(fit, str):
            unavailable[name] = fit
        else:
            alternatives[name] = fit
    return IsoflopFit(
        default.params_law, default.tokens_law, default.optima, default.dropped,
        alternatives, unavailable,
    )  # fmt: skip


def slices_of(runs: Runs) -> list[Slice]:
    """The runs of each budget, least first."""
    if runs.budget is not None:
        budgets = runs.budget
    else:
        budgets = runs.compute.copy()
        first = -math.inf
        for i in np.argsort(runs.compute, kind='stable'):
            if budgets[i] > SAME_BUDGET * first:
                first = budgets[i]
            budgets[i] = first
    found = []
    for budget in np.unique(budgets):
        mine = budgets == budget
        flops = budget if runs.budget is not None else np.exp(np.log(runs.compute[mine]).mean())
        logs = np.log(runs.params[mine]), runs.losses[mine], np.log(runs.tokens[mine])
        found.append(Slice(float(flops), *logs))
    return found


def _other_vertices(slices: list[Slice]) -> dict[str, list[Vertex | str]]:
    found = {'exponentials': exponentials(slices), 'cubic': [cubic(points) for points in slices]}
    for factor in WINDOWS:
        found[f'within_{factor}x'] = [parabola(points.within(factor)) for points in slices]
    return found


def optima_of(
    slices: list[Slice], vertices: list[Vertex | str]
) -> tuple[tuple[Optimum, ...], tuple[Dropped, ...]]:
    """The optimum of each budget that has one, and the others."""
    optima, dropped = [], []
    for points, vertex in zip(slices, vertices, strict=True):
        if isinstance(vertex, str):
            dropped.append(Dropped(points.flops, vertex))
        else:
            tokens = points.tokens_at(vertex.x)
            optima.append(Optimum(points.flops, math.exp(vertex.x), tokens, vertex.loss))
    return tuple(optima), tuple(dropped)


def through(slices: list[Slice], vertices: list[Vertex | str]) -> IsoflopFit | str:
    """The laws through the vertices, or why there are none."""
    optima, dropped = optima_of(slices, vertices)
    if len(optima) < 2:
        reasons = ', '.join(f'{drop.flops:.6g} has {drop.reason}' for drop in dropped)
        return f'{len(optima)} of {len(slices)} have a minimum within their sizes: {reasons}'
    return IsoflopFit(*laws(optima), optima, dropped)
