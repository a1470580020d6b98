"""Scaling laws fitted to training runs, in float64, by numpy alone: no jax.

runs = lm.scaling.read_runs('runs.csv')
fit = lm.scaling.fit_parametric(runs)
"""

from lm.scaling.parametric import Constants, ParametricFit, fit_parametric
from lm.scaling.runs import Runs, read_runs

__all__ = ['Constants', 'ParametricFit', 'Runs', 'fit_parametric', 'read_runs']
