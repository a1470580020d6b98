"""Fits scaling laws to a CSV or JSONL file of runs, by Chinchilla's three approaches.

Columns `params, tokens, loss`; `flops`, `budget`, `run` and `unique_tokens` where there are any;
others are passed over, as are lines that begin with `#`. `parametric` fits
L = E + A/N^alpha + B/D^beta, `isoflop` a parabola in ln N for each budget, `envelope` the lower
hull of learning curves. Says N*, D* and the loss of the computes in `--flops`, with intervals from
runs drawn with replacement. Needs no jax.
"""

import json
from typing import Any, Literal

import numpy as np

from lm.errors import UserError
from lm.fields import require
from lm.flags import Flags
from lm.scaling.approaches import METHODS, fit_approach
from lm.scaling.runs import Runs, read_runs

from ._fit_json import approach_json, optimal_json
from ._fit_text import as_text

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
    flags.define('resamples', int, 1000, 'of the bootstrap; 0: no intervals')
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
    asked = METHODS if flags['method'] == 'all' else (flags['method'],)
    found: dict[str, Any] = {'warnings': _warnings(runs), 'unavailable': {}, 'optimal': []}
    for method in asked:
        try:
            approach = fit_approach(method, runs, flags['resamples'], flags['seed'])
            told = approach_json(approach, level)
            optimal = [
                optimal_json(approach, flops, level)
                for flops in flags['flops'] or (approach.largest,)
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
