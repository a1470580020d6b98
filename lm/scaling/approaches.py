"""One of Chinchilla's three approaches fitted to runs, with what its resamples tell of its errors.

The loss at an optimum is the law itself at N* and D* for the parametric approach. For the other two
it is a law of their optima's losses by compute, E + K C^-c (K C^-c of fewer than four optima).
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from lm.errors import UserError
from lm.scaling.allocation import Fit, optimal_allocation
from lm.scaling.bootstrap import RESAMPLES, Bootstrap, Interval, bootstrap_parametric
from lm.scaling.envelope import fit_envelope
from lm.scaling.frontier_bootstrap import (
    FrontierBootstrap,
    bootstrap_envelope,
    bootstrap_isoflop,
)
from lm.scaling.isoflop import fit_isoflop
from lm.scaling.parametric import ParametricFit, fit_parametric
from lm.scaling.runs import Runs

Method = Literal['parametric', 'isoflop', 'envelope']
METHODS: tuple[Method, ...] = get_args(Method)
FAR = 10.0
"""Beyond so many times the data's largest compute a prediction is called far."""


@dataclass(frozen=True)
class Prediction:
    """The best size and data at a compute, and the loss there.

    Args:
      flops: C.
      params: N*(C).
      tokens: D*(C).
      loss: nats a token; None where the optima's losses do not fall with compute.
      intervals: of `params`, `tokens` and `loss`; empty where nothing was resampled.
    """

    flops: float
    params: float
    tokens: float
    loss: float | None
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Approach:
    """A fit, its resamples, and the largest compute of the runs that it was fitted to.

    Args:
      method: which of the three approaches.
      fit: its law.
      resampled: the fits of the runs drawn again; None where nothing was.
      largest: C of the dearest run.
    """

    method: Method
    fit: Fit
    resampled: Bootstrap | FrontierBootstrap | None
    largest: float

    def far(self, flops: float) -> bool:
        """Whether a compute lies beyond ten times all of the data's."""
        return flops > FAR * self.largest

    def predict(self, flops: float, level: float = 0.9) -> Prediction:
        """N*, D* and the loss at a compute, with percentile intervals.

        Args:
          flops: C.
          level: what the intervals are to cover.

        Raises:
          UserError: `flops` is not positive and finite, `level` is no fraction, or the law fitted
            has no optimum.
        """
        best = optimal_allocation(self.fit, flops)
        intervals = {}
        if self.resampled is not None:
            intervals = self.resampled.optimal_intervals(best.flops, level)
        loss = self._loss(best.flops, best.params, best.tokens)
        return Prediction(best.flops, best.params, best.tokens, loss, intervals)

    def _loss(self, flops: float, params: float, tokens: float) -> float | None:
        if isinstance(self.fit, ParametricFit):
            return float(self.fit.loss(np.array([params]), np.array([tokens]))[0])
        try:
            return self.fit.loss_law(flops)
        except UserError:
            return None


def fit_approach(method: Method, runs: Runs, resamples: int = RESAMPLES, seed: int = 0) -> Approach:
    """Fits an approach with its default options, and draws its resamples.

    Args:
      method: which of the three.
      runs: points of runs.
      resamples: how many to draw; 0 for none, and so no intervals.
      seed: of the draws.

    Raises:
      UserError: the runs do not allow this approach, or hardly any resample does.
    """
    largest = float(runs.compute.max())
    if method == 'parametric':
        law = fit_parametric(runs)
        drawn = bootstrap_parametric(runs, law, resamples, seed) if resamples else None
        return Approach(method, law, drawn, largest)
    if method == 'isoflop':
        isoflop = fit_isoflop(runs)
        again = bootstrap_isoflop(runs, isoflop, resamples, seed) if resamples else None
        return Approach(method, isoflop, again, largest)
    envelope = fit_envelope(runs)
    again = bootstrap_envelope(runs, envelope, resamples, seed) if resamples else None
    return Approach(method, envelope, again, largest)
