"""Approach 3: L = E + A / N^alpha + B / D^beta, by the Huber loss of ln L's residuals.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556:
    equation 10 and appendix D.3 (the objective, its grid of starts).
  Besiroglu et al. 2024, Chinchilla Scaling: A Replication Attempt, arXiv 2404.10102: why the
    objective is a SUM that is followed down to where its gradient ends.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lm.errors import UserError
from lm.scaling.frontier import PowerLaw
from lm.scaling.huber import DELTA, Data, Rows, minimize, objective, terms
from lm.scaling.runs import Points, Runs
from lm.scaling.surface import Constants, Surface

STARTS = 256
"""Starts of the paper's 4500 that are followed, unless asked otherwise."""
GRID = {
    'a': (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    'b': (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    'e': (-1.0, -0.5, 0.0, 0.5, 1.0),
    'alpha': (0.0, 0.5, 1.0, 1.5, 2.0),
    'beta': (0.0, 0.5, 1.0, 1.5, 2.0),
}
"""Where Hoffmann et al. start from (appendix D.3): 4500 points; a = ln A, b = ln B, e = ln E."""
SAME = 1e-6
"""Starts whose objectives agree this closely, relatively, ended at one minimum."""
FLAT = 1e-7
"""The most that a converged fit's gradient may be, of what every point pulling at once could be."""


@dataclass(frozen=True)
class ParametricFit:
    """A fitted law, and how far to trust that it is the objective's minimum.

    Args:
      E: the loss that is left at any size and length, nats a token.
      A: what N^alpha divides.
      B: what D^beta divides.
      alpha: exponent of N.
      beta: exponent of D.
      objective: the sum over points of Huber's function, delta 1e-3.
      gradient_norm: its gradient's norm, ln N and ln D centred and scaled to unit deviation.
      converged: the gradient is nil, the curvature positive every way, both exponents positive.
      starts: how many starts were followed.
      starts_at_best: how many of them ended at this objective.
      points: how many points were fitted.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float
    gradient_norm: float
    converged: bool
    starts: int
    starts_at_best: int
    points: int

    @property
    def constants(self) -> Constants:
        """E, A, B, alpha and beta."""
        return Constants(self.E, self.A, self.B, self.alpha, self.beta)

    @property
    def a(self) -> float:
        """The exponent of N*(C): beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """The exponent of D*(C)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def params_law(self) -> PowerLaw:
        """N*(C) where C = 6 N D (equation 4)."""
        return self.surface.params_law

    @property
    def tokens_law(self) -> PowerLaw:
        """D*(C) where C = 6 N D (equation 4)."""
        return self.surface.tokens_law

    @property
    def surface(self) -> Surface:
        """The law by itself.

        Raises:
          UserError: it has no best size.
        """
        return Surface('parametric', self.constants)

    def loss(self, params: Points, tokens: Points) -> Points:
        """The loss that the law foretells."""
        return self.E + self.A / params**self.alpha + self.B / tokens**self.beta


def fit_parametric(runs: Runs, starts: int | Sequence[Constants] = STARTS) -> ParametricFit:
    """Fits the five constants.

    Args:
      runs: at least five points, of three sizes and three lengths.
      starts: how many of the paper's grid to follow (half of them where the objective is lowest,
        half drawn, always the same), or the very constants to start from.

    Raises:
      UserError: the runs cannot tell five constants apart, or `starts` is no use.
    """
    _require_enough(runs)
    data = Data.of(runs)
    weights = np.ones((1, len(runs)))
    first = _starts(starts, data, weights)
    rows = minimize(data.scaled(first), data, weights)
    values = objective(rows, data, weights)
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    at_best = values <= values[best] * (1 + SAME) + len(runs) * 1e-28
    return described(rows[best], data, len(rows), int(at_best.sum()))


def described(
    row: Float64[np.ndarray, '5'], data: Data, starts: int, at_best: int
) -> ParametricFit:
    """The fit that a row of scaled constants is."""
    end = terms(row[None], data, np.ones((1, len(data.x))))
    gradient = float(np.linalg.norm(end.gradients[0]))
    curvature = np.linalg.eigvalsh(end.hessians[0])
    a, b, e, alpha, beta = data.unscaled(row[None])[0]
    with np.errstate(over='ignore'):
        constants = Constants(*(float(x) for x in (*np.exp([e, a, b]), alpha, beta)))
    return ParametricFit(
        *constants,
        objective=float(end.values[0]),
        gradient_norm=gradient,
        converged=bool(
            gradient <= FLAT * DELTA * len(data.x)
            and curvature[0] > 1e-13 * curvature[-1]
            and min(alpha, beta) > 0
            and np.isfinite(constants).all()
        ),
        starts=starts,
        starts_at_best=at_best,
        points=len(data.x),
    )


def rows_of(constants: Sequence[Constants]) -> Rows:
    """a, b, e, alpha, beta of constants, unscaled."""
    table = np.array(constants, np.float64).reshape(-1, 5)
    logs = np.log(table[:, :3])
    return np.concatenate([logs[:, [1, 2, 0]], table[:, 3:]], 1)


def _starts(
    starts: int | Sequence[Constants], data: Data, weights: Float64[np.ndarray, '1 points']
) -> Rows:
    grid = np.array(list(itertools.product(*GRID.values())))
    if not isinstance(starts, int):
        given = [Constants(*start) for start in starts]
        if not given or any(not np.isfinite(c).all() or min(c[:3]) <= 0 for c in given):
            raise UserError('starts: give constants, E, A and B positive, alpha and beta finite')
        return rows_of(given)
    if not 1 <= starts <= len(grid):
        raise UserError(f'starts={starts}: between 1 and the {len(grid)} of the grid')
    order = np.argsort(objective(data.scaled(grid), data, weights), kind='stable')
    lowest, rest = np.split(order, [(starts + 1) // 2])
    drawn = np.random.default_rng(0).permutation(rest)[: starts // 2]
    return grid[np.concatenate([lowest, drawn])]


def _require_enough(runs: Runs) -> None:
    if len(runs) < len(Constants._fields):
        raise UserError(
            f'runs: {len(runs)} points for the {len(Constants._fields)} constants of '
            'E + A / N^alpha + B / D^beta; give more runs'
        )
    for name, values in (('params', runs.params), ('tokens', runs.tokens)):
        count = len(np.unique(values))
        if count < 3:
            raise UserError(
                f'{name}: {count} different values, which leave E and an exponent undetermined; '
                'give runs of at least 3'
            )
