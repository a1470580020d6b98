"""Runs drawn with replacement: which of them each resample of a bootstrap is of.

The draws depend on the runs and the seed alone, so that resample i of every approach is of the same
runs and their differences can be told from their common errors.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from lm.errors import UserError
from lm.scaling.runs import Runs


@dataclass(frozen=True)
class Draws:
    """How often each run is in each resample.

    Args:
      counts: by resample and run.
      owners: the run of each point.
    """

    counts: Int64[np.ndarray, 'resamples runs']
    owners: Int64[np.ndarray, ' points']

    def __len__(self) -> int:
        return len(self.counts)

    def weights(self, first: int, last: int) -> Float64[np.ndarray, 'rows points']:
        """How often each point is in the resamples from `first` to before `last`."""
        return self.counts[first:last, self.owners].astype(np.float64)

    def index(self, resample: int) -> Int64[np.ndarray, ' drawn']:
        """The points of a resample, twice where drawn twice."""
        return np.repeat(np.arange(len(self.owners)), self.counts[resample, self.owners])


def draw(runs: Runs, resamples: int, seed: int) -> Draws:
    """Draws whole runs where they have names, else points; in a grid by budget.

    Whole runs, for the points of one curve err together.

    Args:
      runs: the budgets of a grid are those of its column `budget`; where a run has points in
        several, runs of all budgets are drawn together.
      resamples: at least two.
      seed: of the draws.

    Raises:
      UserError: too few resamples or runs.
    """
    owners = runs.owners()
    count = int(owners.max()) + 1
    if resamples < 2 or count < 3:
        raise UserError(
            f'resamples={resamples} of {count} runs: give at least 2, of at least 3 runs'
        )
    random = np.random.default_rng(seed)
    counts = np.zeros((resamples, count), np.int64)
    strata = _strata(runs, owners)
    for resample in counts:  # one after the other: fewer resamples are the first of more
        for members in strata:
            size = len(members)
            resample[members] = random.multinomial(size, np.full(size, 1 / size))
    return Draws(counts, owners)


def _strata(
    runs: Runs, owners: Int64[np.ndarray, ' points']
) -> list[Int64[np.ndarray, ' members']]:
    """The runs that are drawn among themselves."""
    everything = np.unique(owners)
    if runs.budget is None:
        return [everything]
    by_budget = [np.unique(owners[runs.budget == budget]) for budget in np.unique(runs.budget)]
    spans = sum(map(len, by_budget)) > len(everything)
    return [everything] if spans else by_budget
