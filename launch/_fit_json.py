"""What `lm fit --json` says of each approach."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lm.errors import UserError
from lm.scaling.approaches import FAR, Approach
from lm.scaling.bootstrap import Bootstrap
from lm.scaling.disagreement import Comparison
from lm.scaling.envelope import EnvelopeFit
from lm.scaling.forms import FormFit
from lm.scaling.frontier_bootstrap import FrontierBootstrap
from lm.scaling.hold_out import HoldOut
from lm.scaling.isoflop import IsoflopFit
from lm.scaling.parametric import ParametricFit
from lm.scaling.profile import Profile
from lm.scaling.runs import Runs


class Profiled(NamedTuple):
    """What the profile adds to the fit, and to each compute."""

    fit: dict[str, Any]
    optimal: list[dict[str, Any]]


def approach_json(approach: Approach, level: float) -> dict[str, Any]:
    """The fit, with its intervals where resamples were drawn."""
    fit = approach.fit
    told = _parametric(fit) if isinstance(fit, ParametricFit) else _laws(fit)
    if isinstance(fit, IsoflopFit):
        told |= {
            'dropped': [vars(drop) for drop in fit.dropped],
            'alternatives': {
                name: _laws(other) | {'dropped': [vars(drop) for drop in other.dropped]}
                for name, other in fit.alternatives.items()
            },
            'unavailable': fit.unavailable,
        }
    if not isinstance(fit, ParametricFit):
        told['loss_law'] = _loss_law(fit)
    return told | _resampled(approach.resampled, level)


def optimal_json(approach: Approach, flops: float, level: float) -> dict[str, Any]:
    """What the approach foretells at a compute."""
    told = {'method': approach.method, **vars(approach.predict(flops, level))}
    if approach.resampled is None:
        del told['intervals']
    return told | {'far': approach.far(flops)}


def profile_json(runs: Runs, approach: Approach, flops: Sequence[float], level: float) -> Profiled:
    """Intervals by profile likelihood beside those of the resamples: the fit's, each compute's."""
    if not isinstance(approach.fit, ParametricFit):
        return Profiled({}, [{} for _ in flops])
    try:
        profile = Profile(runs, approach.fit)
    except UserError as error:
        return Profiled({'profile': {'unavailable': str(error)}}, [{} for _ in flops])
    told = {'scale': profile.scale, 'intervals': profile.intervals(level)}
    at = [{'profile_intervals': profile.optimal_intervals(compute, level)} for compute in flops]
    return Profiled({'profile': told}, at)


def hold_out_json(found: HoldOut) -> dict[str, Any]:
    """The errors of what was held out, mean sizes and each."""
    return {**vars(found), 'loss_error': found.loss_error, 'params_error': found.params_error}


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Two approaches' values of one quantity, and whether they differ beyond their errors."""
    return {
        'methods': [comparison.first, comparison.second],
        'quantity': 'a' if comparison.flops is None else 'params',
        'flops': comparison.flops,
        'values': comparison.values,
        'ratio' if comparison.flops else 'difference': comparison.difference,
        'beyond_errors': comparison.beyond_errors,
    }


def form_json(form: str, fit: FormFit, flops: Sequence[float], largest: float) -> dict[str, Any]:
    """Another form's constants, and what it foretells of each compute.

    Raises:
      UserError: a compute is not positive and finite, or the form says nothing of it.
    """
    names = ('formula', 'constants', 'objective', 'rule', 'converged', 'points')
    optimal = [
        {**fit.predict(compute)._asdict(), 'far': compute > FAR * largest} for compute in flops
    ]
    return {
        'form': form,
        form: {name: getattr(fit, name) for name in names},
        'optimal': optimal,
    }


def _parametric(fit: ParametricFit) -> dict[str, Any]:
    told: dict[str, Any] = fit.constants._asdict()
    told |= {name: getattr(fit, name) for name in ('a', 'b', 'objective', 'gradient_norm')}
    told |= {name: getattr(fit, name) for name in ('converged', 'starts', 'starts_at_best')}
    return told | {'points': fit.points}


def _laws(fit: IsoflopFit | EnvelopeFit) -> dict[str, Any]:
    return {'a': fit.a, 'b': fit.b, 'optima': [vars(optimum) for optimum in fit.optima]}


def _loss_law(fit: IsoflopFit | EnvelopeFit) -> dict[str, Any]:
    try:
        law = fit.loss_law
    except UserError as error:
        return {'unavailable': str(error)}
    return {'form': law.form, 'E': law.E, 'c': law.exponent, 'C0': law.scale}


def _resampled(drawn: Bootstrap | FrontierBootstrap | None, level: float) -> dict[str, Any]:
    if drawn is None:
        return {'intervals': None, 'standard_errors': None}
    told = {'intervals': drawn.intervals(level), 'standard_errors': drawn.standard_errors()}
    told |= {'level': level, 'resamples': drawn.resamples, 'resamples_kept': drawn.kept}
    if isinstance(drawn, FrontierBootstrap):
        told['resamples_with_loss_law'] = len(drawn.loss_laws)
    return told
