"""Scaling laws fitted to training runs, in float64, by numpy and scipy: no jax.

runs = lm.scaling.read_runs('runs.csv')
fit = lm.scaling.fit_parametric(runs)
"""

from lm.scaling.isoflop import IsoflopFit, fit_isoflop
from lm.scaling.parametric import Constants, ParametricFit, fit_parametric
from lm.scaling.runs import Runs, read_runs

__all__ = [
    'Constants', 'IsoflopFit', 'ParametricFit', 'Runs',
    'fit_isoflop', 'fit_parametric', 'read_runs',
]  # fmt: skip
