"""Profile likelihood of the parametric fit: how far a quantity can move before the runs object.

The quantity is held at a value and the other constants are fitted anew. With psi the derivative of
Huber's function and r the residuals of ln L, twice the rise of the objective over
lambda = E[psi^2] / E[psi'] is asymptotically chi-square of one degree, whatever the residuals are
distributed as, so long as that is the same for all; in small samples F of one and n - 5 is nearer.
With a delta of 1e-3 nearly every |psi| is delta, and the objective is close to
least absolute deviations: lambda is then delta / (2 f(0)), f the density of the residuals.

References:
  Schrader and Hettmansperger 1980, Robust Analysis of Variance Based Upon a Likelihood Ratio
    Criterion, Biometrika 67: the statistic and its scale lambda.
  Venzon and Moolgavkar 1988, A Method for Computing Profile-Likelihood-Based Confidence Intervals,
    Applied Statistics 37.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq, minimize
from scipy.special import fdtri

from lm.errors import UserError
from lm.scaling.huber import DELTA, Data, residuals, terms
from lm.scaling.parametric import Constants, ParametricFit, rows_of
from lm.scaling.runs import Runs

Row = Float64[np.ndarray, '5']
"""a, b, e, alpha, beta, scaled."""
Open = tuple[float | None, float | None]
"""An interval; None at an end that the runs leave open."""
WIDENINGS = 12
"""A side is open where not even this many steps, each twice the one before, raise enough."""


@dataclass(frozen=True)
class _Held:
    """A quantity of the constants, and how holding it at a value settles one of them.

    Args:
      of: the quantity of a row.
      place: the constant that is settled, from the others and the value.
      settled: that constant, of a row whose `place` is ignored and the value.
      slopes: its derivatives by the others (0 at `place`).
      within: what the quantity can be.
    """

    of: Callable[[Row], float]
    place: int
    settled: Callable[[Row, float], float]
    slopes: Callable[[Row, float], Row]
    within: tuple[float, float]


class Profile:
    """The objective around its minimum, in units in which twice its rise is a chi-square.

    Args:
      runs: what `fit` was fitted to.
      fit: converged.

    Raises:
      UserError: the fit is at no minimum, or nothing tells the scale of the errors.
    """

    def __init__(self, runs: Runs, fit: ParametricFit):
        if not fit.converged:
            raise UserError('profile: the fit did not converge, so there is nothing to rise from')
        if runs.run is not None and len(set(runs.run)) < len(runs):
            raise UserError(
                'profile: points of one run err together, which it takes no account of; '
                'go by the intervals of the resamples, which are of whole runs'
            )
        self._data = Data.of(runs)
        self._weights = np.ones((1, len(runs)))
        self._best = self._data.scaled(rows_of([fit.constants]))[0]
        end = terms(self._best[None], self._data, self._weights)
        self._least, self._hessian = float(end.values[0]), end.hessians[0]
        off = residuals(self._best[None], self._data)[0]
        # The fit draws as many residuals to nil as it has constants: those tell no density.
        inside = int((np.abs(off) <= DELTA).sum()) - len(Constants._fields)
        if inside <= 0:
            raise UserError(
                'profile: too few residuals are within 1e-3 to tell their density at the fit; '
                'go by the intervals of the resamples'
            )
        self._left = len(runs) - len(Constants._fields)
        self.scale = float((np.clip(off, -DELTA, DELTA) ** 2).sum() / inside)

    def intervals(self, level: float = 0.9) -> dict[str, Open]:
        """Of alpha, beta and a, the exponent of N*(C)."""
        wx, wy = self._data.widths
        held = {
            'alpha': _fixed(3, wx),
            'beta': _fixed(4, wy),
            'a': _Held(
                lambda row: (row[4] / wy) / (row[3] / wx + row[4] / wy),
                4,
                lambda row, a: row[3] * wy / wx * a / (1 - a),
                lambda row, a: np.array([0, 0, 0, wy / wx * a / (1 - a), 0.0]),
                (0.0, 1.0),
            ),
        }
        return {name: self._interval(quantity, level) for name, quantity in held.items()}

    def optimal_intervals(self, flops: float, level: float = 0.9) -> dict[str, Open]:
        """Of N*(C) and of D*(C) = C / (6 N*(C)): `params` and `tokens`."""
        low, high = self._interval(self._best_size(float(flops)), level)
        params = None if low is None else math.exp(low), None if high is None else math.exp(high)
        tokens = tuple(None if end is None else flops / 6 / end for end in reversed(params))
        return {'params': params, 'tokens': (tokens[0], tokens[1])}

    def _best_size(self, flops: float) -> _Held:
        """ln N*(C) (Hoffmann et al. 2022, equation 4), which settles b."""
        (cx, cy), (wx, wy) = self._data.centres, self._data.widths
        product = math.log(flops) - math.log(6)

        def ratio(row: Row) -> float:
            """ln(alpha A) - ln(beta B), but for b."""
            alpha, beta = row[3] / wx, row[4] / wy
            return math.log(alpha / beta) + row[0] + alpha * cx - beta * cy

        def of(row: Row) -> float:
            alpha, beta = row[3] / wx, row[4] / wy
            return (ratio(row) - row[1] + beta * product) / (alpha + beta)

        def settled(row: Row, size: float) -> float:
            alpha, beta = row[3] / wx, row[4] / wy
            return ratio(row) + beta * product - size * (alpha + beta)

        def slopes(row: Row, size: float) -> Row:
            by_alpha = wx / row[3] + cx - size
            by_beta = -wy / row[4] - cy + product - size
            return np.array([1, 0, 0, by_alpha / wx, by_beta / wy])

        return _Held(of, 1, settled, slopes, (-math.inf, math.inf))

    def _interval(self, held: _Held, level: float) -> Open:
        if not 0 < level < 1:
            raise UserError(f'level={level}: between 0 and 1, such as 0.9')
        centre, limit = held.of(self._best), math.sqrt(fdtri(1, self._left, level))
        if self.scale * limit**2 <= 1e-12 * DELTA**2:
            return centre, centre  # losses without any error
        step = limit * self._standard_error(held)
        return self._end(held, centre, -step, limit), self._end(held, centre, step, limit)

    def _end(self, held: _Held, centre: float, step: float, limit: float) -> float | None:
        """Where the root of the statistic passes the limit, on the side of the step."""

        def over(value: float) -> float:
            return math.sqrt(max(0.0, self.statistic(held, value))) - limit

        edge, near = held.within[step > 0], centre
        for _ in range(WIDENINGS):
            # To just inside of what the quantity can be, never onto it.
            last = abs(step) >= 0.999 * abs(edge - centre)
            far = centre + (0.999 * (edge - centre) if last else step)
            if over(far) > 0:
                return float(brentq(over, near, far, xtol=1e-4 * abs(far - near), rtol=1e-12))
            if last:
                break
            near, step = far, 2 * step
        return None

    def statistic(self, held: _Held, value: float) -> float:
        """Twice the rise of the objective with the quantity held at a value, over the scale."""
        free = np.delete(np.arange(5), held.place)
        root = np.linalg.cholesky(self._hessian[np.ix_(free, free)] / self.scale).T

        def rise(z: np.ndarray) -> tuple[float, np.ndarray]:
            row = self._best.copy()
            row[free] += np.linalg.solve(root, z)
            if min(row[3], row[4]) <= 0:
                return math.inf, np.zeros(4)
            row[held.place] = held.settled(row, value)
            at = terms(row[None], self._data, self._weights)
            gradient = at.gradients[0]
            by_free = (gradient + gradient[held.place] * held.slopes(row, value))[free]
            return (
                float(at.values[0] - self._least) / self.scale,
                np.linalg.solve(root.T, by_free) / self.scale,
            )

        found = minimize(rise, np.zeros(4), jac=True, method='BFGS', options={'gtol': 1e-6})
        return 2 * float(found.fun)

    def _standard_error(self, held: _Held) -> float:
        """By the curvature at the minimum: no more than a first step."""
        steps = 1e-6 * np.eye(5)
        slope = np.array(
            [held.of(self._best + step) - held.of(self._best - step) for step in steps]
        ) / 2e-6  # fmt: skip
        return math.sqrt(self.scale * slope @ np.linalg.solve(self._hessian, slope))


def _fixed(place: int, width: float) -> _Held:
    """An exponent itself."""
    return _Held(
        lambda row: row[place] / width,
        place,
        lambda row, value: value * width,
        lambda row, value: np.zeros(5),
        (0.0, math.inf),
    )
