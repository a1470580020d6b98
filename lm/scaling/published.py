"""Laws of compute-optimal training as published, with what is known of their errors.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556: tables 2
    (exponents), 3 and A3 (sizes, compute and tokens by each approach), section D.4.
  Besiroglu et al. 2024, Chinchilla Scaling: A Replication Attempt, arXiv 2404.10102: approach 3
    fitted anew to 240 points read off Hoffmann et al.'s figure 4.
  Kaplan et al. 2020, Scaling Laws for Neural Language Models, arXiv 2001.08361: table 6, eq. 5.5.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lm.scaling.frontier import PowerLaw, regress
from lm.scaling.surface import Constants, Surface

LEVEL = 0.8
"""What published ranges cover: from the 10th to the 90th percentile, as in Hoffmann's table 2."""
PF_DAY = 8.64e19
"""FLOP in a petaFLOP/s-day, Kaplan's unit of compute."""

BESIROGLU = Surface('besiroglu2024', Constants(1.8172, 482.01, 2085.43, 0.3478, 0.3658))
"""Table 1; their standard errors: E .03, A 124.58, B 1293.23, alpha .02, beta .02."""

HOFFMANN_ROWS = (
    # Parameters; C and D by approach 1 (table 3), by approach 2 and by approach 3 (table A3).
    (4e8, 1.92e19, 8e9, 1.84e19, 7.7e9, 2.21e19, 9.2e9),
    (1e9, 1.21e20, 20.2e9, 1.20e20, 20e9, 1.62e20, 27.1e9),
    (1e10, 1.23e22, 205.1e9, 1.32e22, 219.5e9, 2.46e22, 410.1e9),
    (67e9, 5.76e23, 1.5e12, 6.88e23, 1.7e12, 1.71e24, 4.1e12),
    # Approach 3's compute is printed 1.26e24 here; its own N and D make it 1.26e25.
    (175e9, 3.85e24, 3.7e12, 4.54e24, 4.3e12, 1.26e25, 12e12),
    (280e9, 9.90e24, 5.9e12, 1.18e25, 7.1e12, 3.52e25, 20.1e12),
    (520e9, 3.43e25, 11e12, 4.19e25, 13.4e12, 1.36e26, 43.5e12),
    (1e12, 1.27e26, 21.2e12, 1.59e26, 26.5e12, 5.65e26, 94.1e12),
    (1e13, 1.30e28, 216.2e12, 1.75e28, 292e12, 8.55e28, 1425.5e12),
)


@dataclass(frozen=True)
class Spread:
    """How far ln N*(C) may be off, at `LEVEL`: least at a pivot, and growing away from it.

    Args:
      pivot: the C of least error.
      exponents: the range of the exponent of N*(C).
      log_error: standard error of ln N* at the pivot; 0 where none is published.
      source: where these are from, and what they leave out.
    """

    pivot: float
    exponents: tuple[float, float]
    log_error: float
    source: str

    @property
    def of_exponent_alone(self) -> bool:
        """Whether the error of the coefficient is left out, so that the true range is wider."""
        return self.log_error == 0

    def of_params(self, law: PowerLaw, flops: float) -> tuple[float, float]:
        """The range of N*(C): both errors in quadrature, each side by itself."""
        away, best = math.log(flops / self.pivot), law(flops)
        ends = sorted((exponent - law.exponent) * away for exponent in self.exponents)
        level = NormalDist().inv_cdf((1 + LEVEL) / 2) * self.log_error
        low, high = min(ends[0], 0.0), max(ends[1], 0.0)
        return best * math.exp(-math.hypot(low, level)), best * math.exp(math.hypot(high, level))


@dataclass(frozen=True)
class PublishedLaw:
    """N*(C) as somebody published it; D*(C) is C / (6 N*).

    Args:
      name: for JSON and tables.
      source: of the law.
      params_law: N*(C).
      computes: about the least and the largest C that it was fitted on.
      spread: its error; None where none is published that can be used.
      surface: its loss; None where it has none.
    """

    name: str
    source: str
    params_law: PowerLaw
    computes: tuple[float, float]
    spread: Spread | None = None
    surface: Surface | None = None


def _of_tables(approach: int) -> PowerLaw:
    """Through the rows of Hoffmann et al.'s table 3 or A3."""
    sizes, compute = np.array([(row[0], row[2 * approach - 1]) for row in HOFFMANN_ROWS]).T
    return regress(compute, sizes)


_GRID = (6e18, 3e21)
"""Hoffmann et al.'s iso-FLOP grid; approach 1 covers about the same."""
_MIDDLE = math.sqrt(_GRID[0] * _GRID[1])
_REFIT = BESIROGLU.params_law.exponent
_NARROW = "table 2's 10th to 90th percentile of a; the coefficient's own error is not published"

LAWS = (
    PublishedLaw(
        'hoffmann2022_approach1', 'Hoffmann et al. 2022, through table 3', _of_tables(1), _GRID,
        Spread(_MIDDLE, (0.488, 0.502), 0.0, _NARROW),
    ),
    PublishedLaw(
        'hoffmann2022_approach2', 'Hoffmann et al. 2022, through table A3', _of_tables(2), _GRID,
        Spread(_MIDDLE, (0.462, 0.534), 0.0, _NARROW),
    ),
    # Table 2's range of a, .454 to .455, leaves out the table's own .46: no interval is made of it.
    PublishedLaw(
        'hoffmann2022_approach3', 'Hoffmann et al. 2022, through table A3', _of_tables(3), _GRID,
    ),
    PublishedLaw(
        'besiroglu2024', 'Besiroglu et al. 2024, table 1', BESIROGLU.params_law, (1.4e18, 1.3e22),
        Spread(
            1.83e19, (_REFIT - 0.0250, _REFIT + 0.0250), 0.0230,
            'normal, from 4000 bootstraps of their 240 points by `bootstrap_parametric`; they '
            'publish no covariance',
        ),
        BESIROGLU,
    ),
    # At the critical batch size C is 2 C_min (equation 5.5); so Hoffmann et al. read it in D.4.
    PublishedLaw(
        'kaplan2020', 'Kaplan et al. 2020, table 6: N = 1.3e9 (C / 2 PF-days)^0.73, without '
        'embeddings; superseded, for contrast',
        PowerLaw(0.73, math.log(1.3e9) - 0.73 * math.log(2 * PF_DAY)), (1e15, 1e21),
    ),
)  # fmt: skip
"""In the order of publication within each paper."""

TOKENS_PER_PARAM = 20.0
"""The rule of thumb drawn from Hoffmann et al.'s table 3."""


def rule_of_20(flops: float) -> tuple[float, float]:
    """N and D where D = 20 N and C = 6 N D."""
    params = math.sqrt(flops / (6 * TOKENS_PER_PARAM))
    return params, TOKENS_PER_PARAM * params
