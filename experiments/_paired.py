"""Statistics of paired runs: of each seed two, alike but for one thing; and what they say in words.

References: Student 1908, "The probable error of a mean" (the interval); Bloom 1995, "Minimum
detectable effects", Evaluation Review 19(5) (the smallest gap that a study would probably see).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Gap:
    """The mean of paired differences.

    Attributes:
      mean: in the unit of the differences.
      reach: half of the mean's 95 % interval.
      detectable: a true gap of this size would be seen, its interval without 0, in 80 % of studies
        of as many pairs. It comes from the same standard deviation as `reach`, which of three
        pairs is itself known within a factor of 0.5 to 6 only (95 %, chi-square of two degrees of
        freedom), so it is an order of magnitude.
    """

    mean: float
    reach: float
    detectable: float

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self.reach

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.mean + self.reach


def gap_of(differences: Sequence[float]) -> Gap | None:
    """The gap of two or more paired differences; fewer have no interval: None."""
    if len(differences) < 2:
        return None
    from scipy import stats

    freedom = len(differences) - 1
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    interval = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    power = float(stats.t.ppf(POWER, freedom))
    return Gap(statistics.mean(differences), interval * error, (interval + power) * error)


@dataclass(frozen=True)
class Comparison:
    """An arm beside its reference, over the same seeds.

    Attributes:
      seeds: pairs that were run.
      diverged: runs of the arm that ended in a number that is not finite.
      differences: arm - reference, of the pairs of which both runs ended well.
      same_bits: every pair ended with the same parameters to the bit.
    """

    seeds: int
    diverged: int
    differences: tuple[float, ...]
    same_bits: bool = False

    @property
    def gap(self) -> Gap | None:
        """Of the pairs that ended well; None: there are fewer than two."""
        return gap_of(self.differences)

    @property
    def worse(self) -> bool:
        """Whether runs diverged, or the whole interval is above 0."""
        return self.diverged > 0 or (self.gap is not None and self.gap.low > 0)

    @property
    def alike(self) -> bool:
        """Whether no run diverged and the interval holds 0."""
        gap = self.gap
        return self.diverged == 0 and gap is not None and gap.low <= 0 <= gap.high

    @property
    def verdict(self) -> str:
        """In words."""
        if self.same_bits:
            return 'the same bits'
        said = [f'diverged in {self.diverged} of {self.seeds}'] if self.diverged else []
        gap = self.gap
        if gap is not None:
            said.append(gap_words(gap))
        elif not said:
            said.append(f'{len(self.differences)} of {self.seeds} pairs ended well: no interval')
        return '; of the others '.join(said)


def gap_words(gap: Gap) -> str:
    """What an interval says: `worse by 0.0120 [0.0031, 0.0209]`."""
    if gap.low <= 0 <= gap.high:
        return f'no difference seen; one of {gap.detectable:.2g} would have been'
    word, low, high = 'worse', gap.low, gap.high
    if gap.mean < 0:
        word, low, high = 'better', -gap.high, -gap.low
    return f'{word} by {abs(gap.mean):.2g} [{low:.2g}, {high:.2g}]'
