"""How sure a parametric fit is: fits of runs drawn with replacement, all at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lm.errors import UserError
from lm.scaling.draws import draw
from lm.scaling.huber import DELTA, Data, minimize, terms
from lm.scaling.parametric import FLAT, Constants, ParametricFit, rows_of
from lm.scaling.runs import Runs

RESAMPLES = 1000
AT_ONCE = 200_000
"""Points times resamples that are held at a time."""

Interval = tuple[float, float]
Drawn = Float64[np.ndarray, ' kept']


@dataclass(frozen=True)
class Bootstrap:
    """The constants of each resample.

    Args:
      constants: E, A, B, alpha, beta of each resample that is `kept`.
      draws: the number of each one's draw.
      resamples: how many were drawn; those kept came to rest with both exponents positive.
    """

    constants: Float64[np.ndarray, 'kept 5']
    draws: Int64[np.ndarray, ' kept']
    resamples: int

    @property
    def kept(self) -> int:
        """How many resamples the errors and intervals are of."""
        return len(self.constants)

    def columns(self) -> dict[str, Drawn]:
        """Each constant of each resample by name, with `a`, the exponent of N*(C)."""
        found = dict(zip(Constants._fields, self.constants.T, strict=True))
        return found | {'a': found['beta'] / (found['alpha'] + found['beta'])}

    def standard_errors(self) -> dict[str, float]:
        """The resamples' standard deviation, by constant."""
        return {name: float(np.std(values, ddof=1)) for name, values in self.columns().items()}

    def intervals(self, level: float = 0.9) -> dict[str, Interval]:
        """Percentile intervals, by constant."""
        return {name: interval(values, level) for name, values in self.columns().items()}

    def optimal(self, flops: float) -> dict[str, Drawn]:
        """N*(C), D*(C) and the loss there of each resample: `params`, `tokens` and `loss`."""
        of = self.columns()
        ratio = of['alpha'] * of['A'] / (of['beta'] * of['B'])
        log_ratio = np.log(ratio) / (of['alpha'] + of['beta'])
        log_product = np.log(float(flops)) - np.log(6)
        params = np.exp(log_ratio + of['a'] * log_product)
        tokens = np.exp((1 - of['a']) * log_product - log_ratio)
        loss = of['E'] + of['A'] / params ** of['alpha'] + of['B'] / tokens ** of['beta']
        return {'params': params, 'tokens': tokens, 'loss': loss}

    def optimal_intervals(self, flops: float, level: float = 0.9) -> dict[str, Interval]:
        """Percentile intervals of N*(C), D*(C) and the loss themselves."""
        return {name: interval(values, level) for name, values in self.optimal(flops).items()}


def bootstrap_parametric(
    runs: Runs, fit: ParametricFit, resamples: int = RESAMPLES, seed: int = 0
) -> Bootstrap:
    """Fits `resamples` draws of the runs, each from the constants of `fit`.

    Args:
      runs: what `fit` was fitted to.
      fit: where each resample starts.
      resamples: at least two.
      seed: of the draws.

    Raises:
      UserError: too few resamples or runs, or hardly any resample came to rest.
    """
    draws = draw(runs, resamples, seed)
    data = Data.of(runs)
    start = data.scaled(rows_of([fit.constants]))
    step, found, kept = max(1, AT_ONCE // len(runs)), [], []
    for first in range(0, resamples, step):
        weights = draws.weights(first, first + step)
        ends = minimize(np.repeat(start, len(weights), 0), data, weights)
        at_rest = _at_rest(ends, data, weights)
        a, b, e, alpha, beta = data.unscaled(ends[at_rest]).T
        found.append(np.stack([np.exp(e), np.exp(a), np.exp(b), alpha, beta], 1))
        kept.append(first + np.flatnonzero(at_rest))
    constants = np.concatenate(found)
    if len(constants) < 2:
        raise UserError(
            f'runs: {len(constants)} of {resamples} resamples have a minimum; '
            'give runs that vary params and tokens apart'
        )
    return Bootstrap(constants, np.concatenate(kept), resamples)


def _at_rest(
    rows: Float64[np.ndarray, 'rows 5'], data: Data, weights: Float64[np.ndarray, 'rows points']
) -> Bool[np.ndarray, ' rows']:
    """Whether the gradient is nil, the exponents positive and A and B finite."""
    gradients = np.linalg.norm(terms(rows, data, weights).gradients, axis=1)
    flat = gradients <= FLAT * DELTA * weights.sum(1)
    plain = data.unscaled(rows)
    return flat & (plain[:, 3:] > 0).all(1) & (plain[:, :3] < 700).all(1)


def interval(values: Drawn, level: float) -> Interval:
    """What the middle `level` of the values lies within.

    Raises:
      UserError: `level` is no fraction.
    """
    if not 0 < level < 1:
        raise UserError(f'level={level}: between 0 and 1, such as 0.9')
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
