"""Whether two approaches differ by more than their errors, told from resamples of the same runs.

Both approaches were fitted to the same draws, so that the errors that they share cancel in each
draw's difference, which is what an interval is taken of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np

from lm.scaling.approaches import Approach
from lm.scaling.bootstrap import Interval, interval
from lm.scaling.frontier_bootstrap import bootstrap_isoflop
from lm.scaling.isoflop import IsoflopFit, slices_of
from lm.scaling.runs import Runs
from lm.scaling.vertices import exponentials, shared_exponents


@dataclass(frozen=True)
class Comparison:
    """One quantity by two approaches.

    Args:
      first: the name of one approach.
      second: of the other.
      flops: C of N*(C); None where the quantity is the exponent of it.
      values: by the first and by the second.
      difference: the interval of a_first - a_second, or of N*_first / N*_second.
    """

    first: str
    second: str
    flops: float | None
    values: tuple[float, float]
    difference: Interval

    @property
    def beyond_errors(self) -> bool:
        """Whether the interval leaves out that both are the same."""
        low, high = self.difference
        return not low <= (0.0 if self.flops is None else 1.0) <= high


def compare(
    approaches: Mapping[str, Approach], flops: Sequence[float], level: float = 0.9
) -> list[Comparison]:
    """Every two approaches, in the exponent of N*(C) and in N* at each compute.

    Args:
      approaches: by name; fitted to the same runs, their resamples drawn with the same seed.
        Those without resamples are not compared.
      flops: computes.
      level: what an interval of a difference is to cover, each by itself.
    """
    found = []
    for (first, one), (second, other) in combinations(approaches.items(), 2):
        if one.resampled is None or other.resampled is None:
            continue
        _, of_one, of_other = np.intersect1d(
            one.resampled.draws, other.resampled.draws, return_indices=True
        )
        if len(of_one) < 2:
            continue  # hardly a draw of which both have a fit, which each of them tells
        a = one.resampled.columns()['a'][of_one] - other.resampled.columns()['a'][of_other]
        values = one.fit.a, other.fit.a
        found.append(Comparison(first, second, None, values, interval(a, level)))
        for compute in flops:
            params = [x.resampled.optimal(compute)['params'] for x in (one, other) if x.resampled]
            ratio = params[0][of_one] / params[1][of_other]
            values = one.predict(compute).params, other.predict(compute).params
            found.append(Comparison(first, second, compute, values, interval(ratio, level)))
    return found


def unbiased(isoflop: Approach, runs: Runs, resamples: int, seed: int) -> Approach | None:
    """The iso-FLOP approach by exponentials, which have no bias; None where they find no optima.

    Args:
      isoflop: the approach by parabolas.
      runs: what it was fitted to.
      resamples: at least two; the first of those of a longer bootstrap of the same seed.
      seed: of the draws.

    Raises:
      UserError: hardly any resample has a fit.
    """
    if not isinstance(isoflop.fit, IsoflopFit) or 'exponentials' not in isoflop.fit.alternatives:
        return None
    fit = isoflop.fit.alternatives['exponentials']
    shared = shared_exponents(slices_of(runs))
    again = exponentials if shared is None else partial(exponentials, starts=(shared,))
    drawn = bootstrap_isoflop(runs, fit, resamples, seed, again)
    return replace(isoflop, fit=fit, resampled=drawn)
