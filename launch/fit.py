"""Fits scaling laws to a CSV or JSONL file of runs, by Chinchilla's three approaches.

Columns `params, tokens, loss`; `flops`, `budget`, `run` and `unique_tokens` where there are any;
others are passed over, as are lines that begin with `#`. `parametric` fits
L = E + A/N^alpha + B/D^beta, `isoflop` a parabola in ln N for each budget, `envelope` the lower
hull of learning curves. Says N*, D* and the loss of the computes in `--flops`, with intervals from
runs drawn with replacement (of the parametric fit by profile likelihood too); how well the same
fits without the largest computes foretell those; and which approaches differ by more than their
errors. `--form` fits another law instead: `tied` (alpha = beta), `gadre` (over-training), `power`
(L(C) with a floor), `kaplan_n`, `kaplan_d`, `kaplan_c` and the joint `kaplan`. Needs no jax.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lm.errors import UserError
from lm.fields import require
from lm.flags import Flags
from lm.scaling.approaches import METHODS, Approach, fit_approach
from lm.scaling.disagreement import compare, unbiased
from lm.scaling.forms import fit_form
from lm.scaling.hold_out import HoldOut, hold_out, hold_out_form
from lm.scaling.runs import Runs, read_runs

from ._fit_json import (
    approach_json,
    comparison_json,
    form_json,
    hold_out_json,
    optimal_json,
    profile_json,
)
from ._fit_text import UNBIASED, as_text, form_text

PICTURES = ('.png', '.svg')
WORN = 4.0
"""Tokens seen more often than this are worth less than new ones (Muennighoff et al. 2023)."""

UNBIASED_RESAMPLES = 200
"""Each costs a search for two exponents; a difference needs no fine quantiles."""


def define_flags(flags: Flags) -> None:
    """Which runs, which approach, and which computes to answer for."""
    flags.define('runs', str, '', 'FILE.csv or FILE.jsonl of runs')
    flags.define(
        'method', Literal['parametric', 'isoflop', 'envelope', 'all'], 'all', 'the approach'
    )
    flags.define(
        'form',
        Literal[
            'chinchilla', 'tied', 'gadre', 'power', 'kaplan_n', 'kaplan_d', 'kaplan_c', 'kaplan'
        ],
        'chinchilla',
        "chinchilla: L(N, D) by the approaches of --method; else another form of the law",
    )  # fmt: skip
    flags.define(
        'flops', tuple[float, ...], (), 'computes to tell N* and D* of; empty: the largest'
    )
    flags.define(
        'hold_out', float | None, None,
        'compute beyond which runs are held out to test predictions; none: a third of the largest',
    )  # fmt: skip
    flags.define('resamples', int, 1000, 'of the bootstrap; 0: no intervals')
    flags.define('level', float, 0.9, 'what the intervals are to cover')
    flags.define('seed', int, 0, 'of the bootstrap')
    flags.define('plot', str, '', 'FILE.png or FILE.svg to draw the fits into')
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
    picture = _picture(flags['plot'])
    runs = read_runs(path)
    most = float(runs.compute.max())
    costs = runs.compute if runs.budget is None else runs.budget
    least, largest = float(costs.min()), float(costs.max())
    require(
        flags['hold_out'] is None or least <= flags['hold_out'] < largest,
        f'--hold_out={flags["hold_out"]}: the runs are of {least:.4g} to {largest:.4g} FLOPs; '
        'give a compute between',
    )
    flops = flags['flops'] or (most,)
    if flags['form'] != 'chinchilla':
        _print_form(runs, flags)
        return
    found: dict[str, Any] = {
        'warnings': _warnings(runs), 'unavailable': {}, 'optimal': [], 'hold_out': {},
    }  # fmt: skip
    approaches: dict[str, Approach] = {}
    for method in METHODS if flags['method'] == 'all' else (flags['method'],):
        try:
            approach = fit_approach(method, runs, flags['resamples'], flags['seed'])
            told = approach_json(approach, level)
            optimal = [optimal_json(approach, compute, level) for compute in flops]
            profiled = profile_json(runs, approach, flops, level)
        except UserError as error:
            # Of all approaches those that these runs allow; one that was asked for must be there.
            if flags['method'] != 'all' or str(error).startswith('flops='):
                raise UserError(f'{path}: {error}') from None
            found['unavailable'][method] = str(error)
            continue
        approaches[method] = approach
        found[method] = told | profiled.fit
        found['optimal'] += [a | b for a, b in zip(optimal, profiled.optimal, strict=True)]
        found['hold_out'][method] = _held_out(
            partial(hold_out, method, runs), flags['method'] != 'all', flags
        )
    if not approaches:
        raise UserError(f'{path}: {found["unavailable"]["parametric"]}')
    found['disagreement'] = _disagreement(approaches, runs, flops, flags, found['unavailable'])
    if picture is not None:
        from lm.scaling.plots import plot  # matplotlib takes longer than all else

        plot(picture, runs, approaches)
    print(json.dumps(found) if flags['json'] else as_text(found))


def _print_form(runs: Runs, flags: Flags) -> None:
    """Fits another form than Chinchilla's; the flags of the approaches have no meaning for it."""
    for other in ('method', 'plot', 'resamples', 'seed', 'level'):
        require(
            not flags.given(other),
            f'--{other}: goes with --form=chinchilla; --form={flags["form"]} has no such thing',
        )
    largest = float(runs.compute.max())
    try:
        fit = fit_form(flags['form'], runs)
        held = _held_out(partial(hold_out_form, flags['form'], runs), True, flags)
        own = (largest,) if fit.of_compute else ()
        found = form_json(flags['form'], fit, flags['flops'] or own, largest)
    except UserError as error:
        raise UserError(f'{flags["runs"]}: {error}') from None
    found |= {'warnings': _warnings(runs), 'hold_out': held}
    print(json.dumps(found) if flags['json'] else form_text(found))


def _picture(name: str) -> Path | None:
    """Where to draw, known to be fit for it before anything is fitted."""
    if not name:
        return None
    path = Path(name)
    require(path.suffix in PICTURES, f'--plot={name}: must end in {" or ".join(PICTURES)}')
    require(path.parent.is_dir(), f'--plot={name}: {path.parent} is no folder; make it first')
    return path


def _held_out(
    errors: Callable[[float | None], HoldOut], must: bool, flags: Flags
) -> dict[str, Any]:
    """The errors of a fit without the largest computes.

    Raises:
      UserError: what `must` be told has no fit or no optimum on a side of `--hold_out`.
    """
    try:
        return hold_out_json(errors(flags['hold_out']))
    except UserError as error:
        if flags['hold_out'] is not None and must:
            raise UserError(f'--hold_out={flags["hold_out"]:.6g}: {error}') from None
        return {'unavailable': str(error)}


def _disagreement(
    approaches: dict[str, Approach],
    runs: Runs,
    flops: tuple[float, ...],
    flags: Flags,
    unavailable: dict[str, str],
) -> list[dict[str, Any]]:
    """Every two approaches compared; the vertex without bias too, where it may explain them.

    That it cannot be had is told in `unavailable`.
    """
    compared = compare(approaches, flops, flags['level'])
    if any(c.beyond_errors for c in compared if {c.first, c.second} == {'parametric', 'isoflop'}):
        resamples = min(flags['resamples'], UNBIASED_RESAMPLES)
        try:
            other = unbiased(approaches['isoflop'], runs, resamples, flags['seed'])
        except UserError as error:
            unavailable[UNBIASED], other = str(error), None
        if other is not None:
            named = {'parametric': approaches['parametric'], UNBIASED: other}
            compared += compare(named, flops, flags['level'])
    return [comparison_json(comparison) for comparison in compared]


def _warnings(runs: Runs) -> list[str]:
    found = []
    if runs.failed:
        found.append(f'{runs.failed} runs failed (column error) and are left out')
    if runs.unique_tokens is not None:
        worn = runs.tokens > WORN * runs.unique_tokens
        if worn.any():
            most = float(np.max(runs.tokens / runs.unique_tokens))
            found.append(
                f'{int(worn.sum())} of {len(runs)} points saw their text more than {WORN:g} times, '
                f'up to {most:.3g}: the laws are of text that is new'
            )
    return found
