"""The loss of the best runs by compute, L(C) = E + K C^-c: (C / C0)^-c + E in other letters.

References:
  Henighan et al. 2020, Scaling Laws for Autoregressive Generative Modeling, arXiv 2010.14701,
    equation 1.1.
  Dey et al. 2023, Cerebras-GPT, arXiv 2304.03208, section 3.1.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize_scalar

from lm.errors import UserError
from lm.scaling.runs import Points

EXPONENTS = (1e-3, 1.0)
"""What c is searched within."""
POINTS_FOR_A_FLOOR = 4
"""Fewer points do not bear the three constants with a residual left: a pure power law then."""
RISING = 'loss: the best losses do not fall with compute, so no law of them is fitted'


@dataclass(frozen=True)
class ComputeLaw:
    """E + exp(log_constant - exponent ln C); E is 0 where there is no `floor`."""

    E: float
    log_constant: float
    exponent: float
    floor: bool

    def __call__(self, flops: float) -> float:
        """The loss at C, nats a token."""
        return self.E + math.exp(self.log_constant - self.exponent * math.log(flops))

    @property
    def form(self) -> str:
        """Which of the two forms it is."""
        return 'E + K C^-c' if self.floor else 'K C^-c'

    @property
    def scale(self) -> float:
        """C0 of (C / C0)^-c: the compute at which the loss is one nat above E."""
        return math.exp(self.log_constant / self.exponent)


def fit_compute_law(flops: Points, losses: Points) -> ComputeLaw:
    """Least squares of the losses, E and K not negative; of ln L on ln C without a floor.

    For a given c the law is linear in E and K, so that only c is searched for.

    Args:
      flops: C of each point, of two or more different ones; with fewer than four no floor.
      losses: nats a token.

    Raises:
      UserError: all points are of one compute, or the losses do not fall with it.
    """
    along = np.log(flops)
    centre = float(along.mean())
    different = len(np.unique(flops))
    if different < 2:
        raise UserError(f'flops: all points are of C = {flops[0]:.6g}; give at least two computes')
    if different < POINTS_FOR_A_FLOOR:
        slope, height = np.polyfit(along - centre, np.log(losses), 1)
        if slope >= 0:
            raise UserError(RISING)
        return ComputeLaw(0.0, float(height - slope * centre), float(-slope), False)

    def off(log_exponent: float) -> float:
        return _projected(along - centre, losses, math.exp(log_exponent))[1]

    tried = np.log(np.geomspace(*EXPONENTS, 60))
    best = int(np.argmin([off(x) for x in tried]))
    around = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    found = minimize_scalar(off, bounds=around, method='bounded', options={'xatol': 1e-10})
    exponent = math.exp(found.x)
    floor, height = _projected(along - centre, losses, exponent)[0]
    if height <= 0:
        raise UserError(RISING)
    return ComputeLaw(float(floor), math.log(height) + exponent * centre, exponent, True)


def _projected(
    away: Points, losses: Points, exponent: float
) -> tuple[Float64[np.ndarray, '2'], float]:
    """E and K by least squares, neither negative, and the sum of squares that is left."""
    falling = np.exp(-exponent * away)
    spread = falling - falling.mean()
    height = max(0.0, float((spread * losses).sum() / (spread**2).sum()))
    floor = float(losses.mean() - height * falling.mean())
    if floor < 0:
        floor, height = 0.0, float((falling * losses).sum() / (falling**2).sum())
    left = floor + height * falling - losses
    return np.array([floor, height]), float((left**2).sum())
