"""What `lm fit` says of each approach, in lines."""

import math
from typing import Any

UNBIASED = 'isoflop exponentials'
"""The name of the iso-FLOP approach by exponentials among those compared."""


def as_text(found: dict[str, Any]) -> str:
    """The fits in lines."""
    lines = [f'warning: {warning}' for warning in found['warnings']]
    if 'parametric' in found:
        lines += _parametric(found['parametric'])
    if 'isoflop' in found:
        fit = found['isoflop']
        lines.append(f'isoflop     a {fit["a"]:.4f}  b {fit["b"]:.4f}')
        lines += [f'  dropped {drop["flops"]:.4g}: {drop["reason"]}' for drop in fit['dropped']]
        lines += [
            f'  {name:<13} a {other["a"]:.4f}  b {other["b"]:.4f}'
            for name, other in fit['alternatives'].items()
        ]
        lines += [f'  {name}: {reason}' for name, reason in fit['unavailable'].items()]
        lines += _loss_law(fit['loss_law']) + _intervals(fit)
    if 'envelope' in found:
        fit = found['envelope']
        lines.append(f'envelope    a {fit["a"]:.4f}  b {fit["b"]:.4f}')
        lines += _loss_law(fit['loss_law']) + _intervals(fit)
    lines += [f'{method}: none, {reason}' for method, reason in found['unavailable'].items()]
    for best in found['optimal']:
        lines += _optimal(best)
    for method, held in found['hold_out'].items():
        what = 'runs' if method == 'parametric' else 'optima'
        lines.append(_hold_out(method, held, what))
    return '\n'.join(lines + _disagreement(found['disagreement']))


def _parametric(fit: dict[str, Any]) -> list[str]:
    names = ('E', 'A', 'B', 'alpha', 'beta', 'a')
    state = 'converged' if fit['converged'] else 'NOT CONVERGED'
    return [
        'parametric  ' + '  '.join(f'{name} {fit[name]:.5g}' for name in names),
        f'  {state}: sum of Huber {fit["objective"]:.7g}, gradient {fit["gradient_norm"]:.1g}, '
        f'{fit["starts_at_best"]} of {fit["starts"]} starts',
        *_intervals(fit),
        *_profile(fit['profile']),
    ]


def _profile(profile: dict[str, Any]) -> list[str]:
    if 'unavailable' in profile:
        return [f'  {profile["unavailable"]}']
    return ['  by profile likelihood', *_ranges(profile['intervals'])]


def _ranges(intervals: dict[str, Any]) -> list[str]:
    return [
        f'  {name:<7} ' + ' to '.join('open' if end is None else f'{end:.5g}' for end in ends)
        for name, ends in intervals.items()
    ]


def _loss_law(law: dict[str, Any]) -> list[str]:
    if 'unavailable' in law:
        return [f'  no loss by compute: {law["unavailable"]}']
    return [f'  loss {law["form"]}: E {law["E"]:.4g}  c {law["c"]:.4g}  C0 {law["C0"]:.4g}']


def _intervals(fit: dict[str, Any]) -> list[str]:
    if fit['intervals'] is None:
        return []
    lines = _ranges(fit['intervals'])
    missing = fit['resamples'] - fit['resamples_kept']
    if missing:
        lines.append(f'  {missing} of {fit["resamples"]} resamples had no fit')
    without = fit['resamples_kept'] - fit.get('resamples_with_loss_law', fit['resamples_kept'])
    if without:
        lines.append(f'  {without} of {fit["resamples"]} resamples had no law of the loss')
    return lines


def _optimal(best: dict[str, Any]) -> list[str]:
    far = '  FAR beyond the data' if best['far'] else ''
    loss = '' if best['loss'] is None else f'  loss {best["loss"]:.4f}'
    lines = [
        f'{best["method"]:<11} C {best["flops"]:.4g}: N* {best["params"]:.4g}  '
        f'D* {best["tokens"]:.4g}  {best["tokens"] / best["params"]:.3g} tokens a '
        f'parameter{loss}{far}'
    ]
    lines += _ranges(best.get('intervals', {}))
    if 'profile_intervals' in best:
        lines += ['  by profile likelihood', *_ranges(best['profile_intervals'])]
    return lines


def form_text(found: dict[str, Any]) -> str:
    """Another form than Chinchilla's in lines."""
    form = found['form']
    fit = found[form]
    constants = '  '.join(f'{name} {value:.5g}' for name, value in fit['constants'].items())
    state = '' if fit['converged'] else 'NOT CONVERGED: '
    lines = [f'warning: {warning}' for warning in found['warnings']]
    lines += [
        f'{form:<11} {fit["formula"]}: {constants}',
        f'  {state}{fit["rule"]} {fit["objective"]:.7g}, {fit["points"]} points',
    ]
    for best in found['optimal']:
        if best['params'] is not None:
            lines += _optimal({'method': form, **best})
        else:
            far = '  FAR beyond the data' if best['far'] else ''
            lines.append(f'{form:<11} C {best["flops"]:.4g}: loss {best["loss"]:.4f}{far}')
    return '\n'.join([*lines, _hold_out(form, found['hold_out'], 'runs')])


def _hold_out(method: str, held: dict[str, Any], what: str) -> str:
    if 'unavailable' in held:
        return f'{method:<11} held out: none, {held["unavailable"]}'
    errors = [
        f'{name} off by {held[key]:.2%}'
        for name, key in (('loss', 'loss_error'), ('N*', 'params_error'))
        if held[key] is not None
    ]
    return (
        f'{method:<11} held out: fitted to {held["fitted"]} points of C <= {held["above"]:.4g}, '
        f'{" and ".join(errors)} on average of the {what} beyond'
    )


def _disagreement(compared: list[dict[str, Any]]) -> list[str]:
    lines = [
        f'DISAGREE beyond their errors: {_compared(one)}'
        for one in compared
        if one['beyond_errors']
    ]
    if compared and not lines:
        lines = ['the approaches agree within their errors']
    by_parabola = {
        one['flops']: one for one in compared if one['methods'] == ['parametric', 'isoflop']
    }
    for one in compared:
        if UNBIASED in one['methods'] and not one['beyond_errors']:
            # Wider errors alone would make any two agree: the values must have come together.
            nearer = _apart(one) < _apart(by_parabola[one['flops']]) / 2
            what = (
                'without the bias of the parabola they agree'
                if nearer
                else (
                    'no bias of the parabola, though exponentials are too unsure to tell them apart'
                )
            )
            lines.append(f'{what}: {_compared(one)}')
    return lines


def _apart(one: dict[str, Any]) -> float:
    """How far apart the values are: exponents by difference, sizes by the log of their ratio."""
    left, right = one['values']
    return abs(left - right) if one['quantity'] == 'a' else abs(math.log(left / right))


def _compared(one: dict[str, Any]) -> str:
    (first, second), (left, right) = one['methods'], one['values']
    if one['quantity'] == 'a':
        low, high = one['difference']
        return f'a {left:.4f} {first}, {right:.4f} {second}; difference {low:.4f} to {high:.4f}'
    low, high = one['ratio']
    return (
        f'N* at C {one["flops"]:.4g} {left:.4g} {first}, {right:.4g} {second}; '
        f'ratio {low:.3f} to {high:.3f}'
    )
