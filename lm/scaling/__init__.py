"""Scaling laws fitted to training runs, in float64, by numpy and scipy: no jax.

runs = lm.scaling.read_runs('runs.csv')
fit = lm.scaling.fit_parametric(runs)
lm.scaling.optimal_allocation(fit, flops=1e21)
"""

from lm.scaling.allocation import Allocation, optimal_allocation
from lm.scaling.approaches import Approach, Prediction, fit_approach
from lm.scaling.bootstrap import Bootstrap, bootstrap_parametric
from lm.scaling.compute_law import ComputeLaw, fit_compute_law
from lm.scaling.data_limited import data_limited_optimum
from lm.scaling.disagreement import Comparison, compare
from lm.scaling.envelope import EnvelopeFit, fit_envelope
from lm.scaling.forms import FormFit, fit_form
from lm.scaling.inference import inference_optimum
from lm.scaling.isoflop import IsoflopFit, fit_isoflop
from lm.scaling.parametric import Constants, ParametricFit, fit_parametric
from lm.scaling.profile import Profile
from lm.scaling.runs import Runs, read_runs
from lm.scaling.surface import Surface

__all__ = [
    'Allocation', 'Approach', 'Bootstrap', 'Comparison', 'ComputeLaw', 'Constants', 'EnvelopeFit',
    'FormFit', 'IsoflopFit', 'ParametricFit', 'Prediction', 'Profile', 'Runs', 'Surface',
    'bootstrap_parametric', 'compare', 'data_limited_optimum', 'fit_approach', 'fit_compute_law',
    'fit_envelope', 'fit_form', 'fit_isoflop', 'fit_parametric', 'inference_optimum',
    'optimal_allocation', 'read_runs',
]  # fmt: skip
