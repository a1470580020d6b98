"""The size and data that a compute budget is best spent on, by a fit of any approach."""

import math
from dataclasses import dataclass
from typing import TypeAlias

from lm.errors import UserError
from lm.scaling.envelope import EnvelopeFit
from lm.scaling.isoflop import IsoflopFit
from lm.scaling.parametric import ParametricFit

Fit: TypeAlias = ParametricFit | IsoflopFit | EnvelopeFit
"""Whatever has N*(C) and D*(C)."""


@dataclass(frozen=True)
class Allocation:
    """A budget, and the parameters and tokens to spend it on.

    Args:
      flops: C.
      params: N*.
      tokens: D*.
    """

    flops: float
    params: float
    tokens: float

    @property
    def tokens_per_param(self) -> float:
        """D / N."""
        return self.tokens / self.params


def optimal_allocation(fit: Fit, flops: float) -> Allocation:
    """N* and D* at a compute C.

    Of a parametric fit in closed form, where C = 6 N D:
    N* = G (C/6)^a, D* = (C/6)^b / G, G = (alpha A / (beta B))^(1/(alpha + beta)).

    Args:
      fit: of any of the three approaches.
      flops: C.

    References:
      Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556,
        equation 4.

    Raises:
      UserError: `flops` is not positive and finite, or the law fitted has no optimum.
    """
    try:
        known = float(flops)
    except OverflowError:
        known = math.inf
    if not (math.isfinite(known) and known > 0):
        raise UserError(f'flops={str(flops)[:40]}: must be positive and finite, such as 1e21')
    return Allocation(known, fit.params_law(known), fit.tokens_law(known))
