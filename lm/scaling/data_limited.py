"""The best size and number of epochs where text is scarce and is read more than once.

References:
  Muennighoff et al. 2023, Scaling Data-Constrained Language Models, arXiv 2305.16264, section 3.1
    (the law), appendix A (its constants).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from lm.errors import UserError
from lm.scaling.surface import Surface

DATA_DECAY = 15.387756
"""R*_D: epochs after the first by which repeated text has lost most of its worth."""
PARAMS_DECAY = 5.309743
"""R*_N: the same of parameters beyond what the unique text is best read with."""
POINTS = 2000
"""Sizes at which the loss is looked at before the least is refined."""


@dataclass(frozen=True)
class DataLimitedOptimum:
    """The best use of a compute when there are only so many unique tokens.

    Args:
      params, tokens: N, and D seen, repeats counted.
      epochs: D over the unique tokens; below 1 some are left unread.
      effective_params, effective_tokens: what they are worth, N' and D'.
      loss: of the law with N' and D'.
      lost: how much that is above the loss if all D* tokens were unique.
    """

    params: float
    tokens: float
    epochs: float
    effective_params: float
    effective_tokens: float
    loss: float
    lost: float


def effective(value: float, unique: float, decay: float) -> float:
    """U + U R* (1 - exp(-R / R*)), R = value / U - 1 repetitions (equations 5 and 6).

    All of `value` where none of it is a repetition.
    """
    if value <= unique:
        return value
    repetitions = value / unique - 1
    return unique + unique * decay * -math.expm1(-repetitions / decay)


def effective_size(
    surface: Surface, params: float, tokens: float, unique_tokens: float
) -> tuple[float, float]:
    """N' and D': of data by how often it is read, of parameters by what the unique text feeds."""
    read_once = min(tokens, unique_tokens)
    fed = min(params, surface.best_params(read_once))
    return (
        effective(params, fed, PARAMS_DECAY),
        effective(tokens, read_once, DATA_DECAY),
    )


def data_limited_optimum(
    surface: Surface, flops: float, unique_tokens: float
) -> DataLimitedOptimum:
    """The N that minimises L(N', D') at C = 6 N D.

    Args:
      surface: the law where no text is repeated.
      flops: C.
      unique_tokens: that there are, each read as often as it takes.

    Raises:
      UserError: `unique_tokens` is not positive and finite.
    """
    if not (math.isfinite(unique_tokens) and unique_tokens > 0):
        raise UserError(
            f'unique_tokens={unique_tokens:g}: must be positive and finite, such as 25e9'
        )

    def loss(log_params: float) -> float:
        params = math.exp(log_params)
        return surface.loss(*effective_size(surface, params, flops / (6 * params), unique_tokens))

    free = surface.best(flops)
    middle, reach = math.log(free.params), math.log(1e6)
    grid = np.linspace(middle - reach, middle + reach, POINTS)
    lowest = int(np.argmin([loss(x) for x in grid]))
    ends = grid[max(lowest - 1, 0)], grid[min(lowest + 1, POINTS - 1)]
    found = minimize_scalar(loss, bounds=ends, method='bounded', options={'xatol': 1e-12})
    params = math.exp(float(found.x))
    tokens = flops / (6 * params)
    worth = effective_size(surface, params, tokens, unique_tokens)
    reached = surface.loss(*worth)
    return DataLimitedOptimum(
        params, tokens, tokens / unique_tokens, *worth, reached, reached - free.loss
    )
