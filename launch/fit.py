"""Fits scaling laws to a CSV or JSONL file of runs, by Chinchilla's three approaches.

Columns `params, tokens, loss`; `flops`, `budget`, `run` and `unique_tokens` where there are any;
others are passed over, as are lines that begin with `#`. `parametric` fits
L = E + A/N^alpha + B/D^beta, `isoflop` a parabola in ln N for each budget, `envelope` the lower
hull of learning curves. Says N* and D* of the computes in `--flops`, with intervals where the
approach has them. Needs no jax.
"""

import json
from typing import Any, Literal

import numpy as np

from lm.errors import UserError
from lm.fields import require
from lm.flags import Flags
from lm.scaling.allocation import Fit, optimal_allocation
from lm.scaling.bootstrap import Bootstrap, bootstrap_parametric
from lm.scaling.envelope import EnvelopeFit, fit_envelope
from lm.scaling.isoflop import IsoflopFit, fit_isoflop
from lm.scaling.parametric import ParametricFit, fit_parametric
from lm.scaling.runs import Runs, read_runs

METHODS = ('parametric', 'isoflop', 'envelope')
FAR = 10.0
"""Beyond so many times the data's largest compute a prediction is called far."""
WORN = 4.0
"""Tokens seen more often than this are worth less than new ones (Muennighoff et al. 2023)."""


def define_flags(flags: Flags) -> None:
    """Which runs, which approach, and which computes to answer for."""
    flags.define('runs', str, '', 'FILE.csv or FILE.jsonl of runs')
    flags.define(
        'method', Literal['parametric', 'isoflop', 'envelope', 'all'], 'all', 'the approach'
    )
    flags.define(
        'flops', tuple[float, ...], (), 'computes to tell N* and D* of; empty: the largest'
    )
    flags.define('resamples', int, 1000, 'of the bootstrap of the parametric fit; 0: no intervals')
    flags.define('level', float, 0.9, 'what the intervals are to cover')
    flags.define('seed', int, 0, 'of the bootstrap')
    flags.define('json', bool, False, 'print one JSON object')


def main(flags: Flags) -> None:
    """Prints the fits that were asked for."""
    path, level = flags.required('runs'), flags['level']
    require(0 < level < 1, f'--level={level}: between 0 and 1, such as 0.9')
    require(
        flags['resamples'] == 0 or flags['resamples'] >= 2,
        f'--resamples={flags["resamples"]}: 0, or at least 2',
    )
    require(flags['seed'] >= 0, f'--seed={flags["seed"]}: must not be negative')
    runs = read_runs(path)
    largest = float(runs.compute.max())
    asked = METHODS if flags['method'] == 'all' else (flags['method'],)
    found: dict[str, Any] = {'warnings': _warnings(runs), 'unavailable': {}, 'optimal': []}
    for method in asked:
        try:
            fit, told, drawn = _fitted(method, runs, flags)
            optimal = [
                _optimal(method, fit, drawn, flops, largest, level)
                for flops in flags['flops'] or (largest,)
            ]
        except UserError as error:
            # Of all approaches those that these runs allow; one that was asked for must be there.
            if flags['method'] != 'all' or str(error).startswith('flops='):
                raise UserError(f'{path}: {error}') from None
            found['unavailable'][method] = str(error)
            continue
        found[method] = told
        found['optimal'] += optimal
    if len(found['unavailable']) == len(METHODS):
        raise UserError(f'{path}: {found["unavailable"]["parametric"]}')
    print(json.dumps(found) if flags['json'] else as_text(found))


def _fitted(method: str, runs: Runs, flags: Flags) -> tuple[Fit, dict[str, Any], Bootstrap | None]:
    """A method's fit, what it says as JSON, and its resamples."""
    if method == 'isoflop':
        isoflop = fit_isoflop(runs)
        return isoflop, _isoflop_json(isoflop), None
    if method == 'envelope':
        envelope = fit_envelope(runs)
        return envelope, _envelope_json(envelope), None
    fit = fit_parametric(runs)
    drawn = None
    if flags['resamples']:
        drawn = bootstrap_parametric(runs, fit, flags['resamples'], flags['seed'])
    return fit, _parametric_json(fit, drawn, flags['level']), drawn


def _parametric_json(fit: ParametricFit, drawn: Bootstrap | None, level: float) -> dict[str, Any]:
    told: dict[str, Any] = fit.constants._asdict()
    told |= {name: getattr(fit, name) for name in ('a', 'b', 'objective', 'gradient_norm')}
    told |= {name: getattr(fit, name) for name in ('converged', 'starts', 'starts_at_best')}
    told |= {'points': fit.points, 'intervals': None, 'standard_errors': None}
    if drawn is not None:
        told |= {'intervals': drawn.intervals(level), 'standard_errors': drawn.standard_errors()}
        told |= {'level': level, 'resamples': drawn.resamples, 'resamples_kept': drawn.kept}
    return told


def _isoflop_json(fit: IsoflopFit) -> dict[str, Any]:
    return _laws_json(fit) | {
        'dropped': [vars(drop) for drop in fit.dropped],
        'alternatives': {
            name: _laws_json(other) | {'dropped': [vars(drop) for drop in other.dropped]}
            for name, other in fit.alternatives.items()
        },
        'unavailable': fit.unavailable,
    }


def _envelope_json(fit: EnvelopeFit) -> dict[str, Any]:
    return _laws_json(fit)


def _laws_json(fit: IsoflopFit | EnvelopeFit) -> dict[str, Any]:
    return {'a': fit.a, 'b': fit.b, 'optima': [vars(optimum) for optimum in fit.optima]}


def _optimal(
    method: str, fit: Fit, drawn: Bootstrap | None, flops: float, largest: float, level: float
) -> dict[str, Any]:
    told = {'method': method, **vars(optimal_allocation(fit, flops)), 'far': flops > FAR * largest}
    if drawn is not None:
        told['intervals'] = drawn.optimal_intervals(flops, level)
    return told


def _warnings(runs: Runs) -> list[str]:
    if runs.unique_tokens is None:
        return []
    worn = runs.tokens > WORN * runs.unique_tokens
    if not worn.any():
        return []
    most = float(np.max(runs.tokens / runs.unique_tokens))
    return [
        f'{int(worn.sum())} of {len(runs)} points saw their text more than {WORN:g} times, up to '
        f'{most:.3g}: the laws are of text that is new'
    ]


def as_text(found: dict[str, Any]) -> str:
    """The fits in lines."""
    lines = [f'warning: {warning}' for warning in found['warnings']]
    if 'parametric' in found:
        lines += _parametric_text(found['parametric'])
    if 'isoflop' in found:
        fit = found['isoflop']
        lines.append(f'isoflop     a {fit["a"]:.4f}  b {fit["b"]:.4f}')
        lines += [f'  dropped {drop["flops"]:.4g}: {drop["reason"]}' for drop in fit['dropped']]
        lines += [
            f'  {name:<13} a {other["a"]:.4f}  b {other["b"]:.4f}'
            for name, other in fit['alternatives'].items()
        ]
        lines += [f'  {name}: {reason}' for name, reason in fit['unavailable'].items()]
    if 'envelope' in found:
        fit = found['envelope']
        lines.append(f'envelope    a {fit["a"]:.4f}  b {fit["b"]:.4f}')
    lines += [f'{method}: none, {reason}' for method, reason in found['unavailable'].items()]
    for best in found['optimal']:
        far = '  FAR beyond the data' if best['far'] else ''
        lines.append(
            f'{best["method"]:<11} C {best["flops"]:.4g}: N* {best["params"]:.4g}  '
            f'D* {best["tokens"]:.4g}  {best["tokens"] / best["params"]:.3g} tokens a '
            f'parameter{far}'
        )
        for name, (low, high) in best.get('intervals', {}).items():
            lines.append(f'  {name:<7} {low:.4g} to {high:.4g}')
    return '\n'.join(lines)


def _parametric_text(fit: dict[str, Any]) -> list[str]:
    names = ('E', 'A', 'B', 'alpha', 'beta', 'a')
    state = 'converged' if fit['converged'] else 'NOT CONVERGED'
    lines = [
        'parametric  ' + '  '.join(f'{name} {fit[name]:.5g}' for name in names),
        f'  {state}: sum of Huber {fit["objective"]:.7g}, gradient {fit["gradient_norm"]:.1g}, '
        f'{fit["starts_at_best"]} of {fit["starts"]} starts',
    ]
    if fit['intervals'] is not None:
        lines += [
            f'  {name:<6} {low:.5g} to {high:.5g}' for name, (low, high) in fit['intervals'].items()
        ]
    return lines
