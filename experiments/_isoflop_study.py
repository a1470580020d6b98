"""What an iso-FLOP grid says: its laws, with embeddings counted and not, and a prediction's fate.

References: Hoffmann et al. 2022, arXiv 2203.15556 (the approaches); Pearce and Song 2024,
"Reconciling Kaplan and Chinchilla scaling laws", arXiv 2406.12907 (why the exponent is larger where
embeddings are counted neither in N nor in C).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lm.errors import UserError
from lm.fields import require
from lm.scaling import Runs, fit_isoflop
from lm.scaling.approaches import Method, fit_approach
from lm.scaling.frontier import Frontier, regress
from lm.scaling.isoflop import slices_of
from lm.scaling.parametric import ParametricFit
from lm.scaling.vertices import parabola
from lm.training.workdir import write_json

LEVEL = 0.9
METHODS: tuple[Method, ...] = ('parametric', 'isoflop')
COUNTED = {'all': 'params', 'without embeddings': 'params_non_embedding'}
"""How parameters are counted, and the column of a row."""

Row = Mapping[str, Any]


def by_the_rule(rows: Sequence[Row]) -> list[Row]:
    """The runs at the learning rate of the rule: those that the laws are fitted to."""
    return [row for row in rows if '-lr' not in row['name']]


def runs_of(rows: Sequence[Row], counted: str = 'params') -> Runs:
    """Rows as `lm.scaling` takes them; C is the budget."""

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], np.float64)

    return Runs(
        column(counted), column('tokens'), column('loss'), budget=column('budget'),
        unique_tokens=column('unique_tokens'),
    )  # fmt: skip


def predict(rows: Sequence[Row], top: float, file: Path) -> dict[str, Any]:
    """What the runs below the top budget say of it; what `file` says already stands.

    Returns:
      By approach the best loss in nats a target, its size and tokens, with intervals; the loss is
      None where the losses of the budgets do not fall as a law.

    Raises:
      UserError: the file foretells something else, or from other runs.
    """
    lower = [row for row in by_the_rule(rows) if row['budget'] < top]
    if file.exists():
        said: dict[str, Any] = json.loads(file.read_text(encoding='utf-8'))
        same = said['flops'] == top and said['from_runs'] == [row['run'] for row in lower]
        require(
            same,
            f'{file}: foretells {said["flops"]:g} FLOPs from {len(said["from_runs"])} runs, not '
            f'{top:g} from these {len(lower)}; give another workdir',
        )
        return said
    runs, approaches, unavailable = runs_of(lower), {}, {}
    for method in METHODS:
        try:
            approach = fit_approach(method, runs)
            if isinstance(approach.fit, ParametricFit):
                require(approach.fit.converged, 'fit: did not converge; give more runs')
            foretold = approach.predict(top, LEVEL)
        except UserError as error:
            unavailable[method] = str(error)
            continue
        approaches[method] = {
            'loss': foretold.loss,
            'params': foretold.params,
            'tokens': foretold.tokens,
            'intervals': {name: list(pair) for name, pair in foretold.intervals.items()},
        }
    told = {
        'flops': top,
        'level': LEVEL,
        'from_budgets': sorted({row['budget'] for row in lower}),
        'from_runs': [row['run'] for row in lower],
        'approaches': approaches,
        'unavailable': unavailable,
    }
    write_json(file, told)
    return told


def analyze(rows: Sequence[Row], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Laws of all runs, both ways of counting, rates, and what became of the prediction."""
    ruled = by_the_rule(rows)
    found = _found(ruled, prediction['flops'])
    return {
        'points': [
            {name: row[name] for name in ('name', 'budget', *COUNTED.values(), 'tokens', 'loss')}
            for row in ruled
        ],
        'laws': {counted: _law(ruled, column) for counted, column in COUNTED.items()},
        'learning_rates': _rates(rows),
        'most_epochs': max(row['tokens'] / row['unique_tokens'] for row in rows),
        'prediction': dict(prediction),
        'found': found,
        'hits': {
            method: {
                name: bool(low <= found[name] <= high)
                for name, (low, high) in told['intervals'].items()
                if name in found
            }
            for method, told in prediction['approaches'].items()
        },
    }


def _found(rows: Sequence[Row], top: float) -> dict[str, Any]:
    """The bottom of the top budget's bowl; of its best run where it has none within its sizes."""
    mine = [row for row in rows if row['budget'] == top]
    best = min(mine, key=lambda row: row['loss'])
    told: dict[str, Any] = {'best_run': best['name'], 'best_run_loss': best['loss']}
    [points] = slices_of(runs_of(mine))
    vertex = parabola(points)
    if isinstance(vertex, str):
        return told | {'bowl': vertex, 'params': best['params'], 'loss': best['loss']}
    return told | {'bowl': 'parabola', 'params': float(np.exp(vertex.x)), 'loss': vertex.loss}


def _law(rows: Sequence[Row], column: str) -> dict[str, Any]:
    """N*(C) by the bowls, by the parabola and by exponentials, C counted as N is.

    The C of a bowl whose N leaves embeddings out is 6 N* D*.
    """
    runs = runs_of(rows, column)
    try:
        fit = fit_isoflop(runs)
    except UserError as error:
        return {'unavailable': str(error)}
    ways: dict[str, Frontier] = {'parabola': fit, **fit.alternatives}
    laws = {}
    for name in ('parabola', 'exponentials'):
        if name not in ways or len(ways[name].optima) < 2:
            continue
        sizes = np.array([optimum.params for optimum in ways[name].optima])
        tokens = np.array([optimum.tokens for optimum in ways[name].optima])
        budgets = np.array([optimum.flops for optimum in ways[name].optima])
        compute = budgets if column == 'params' else 6 * sizes * tokens
        laws[name] = {
            'a': regress(compute, sizes).exponent,
            'optima': [
                dict(zip(('flops', 'params', 'tokens'), map(float, one), strict=True))
                for one in zip(compute, sizes, tokens, strict=True)
            ],
        }
    return laws | {'dropped': [vars(drop) for drop in fit.dropped]}


def _rates(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """At each end of the grid, the losses of one size by factors of the rule's learning rate."""
    told = []
    for budget in sorted({row['budget'] for row in rows}):
        others = [row for row in rows if row['budget'] == budget and '-lr' in row['name']]
        if not others:
            continue
        name = others[0]['name'].partition('-lr')[0]
        losses = {float(row['name'].partition('-lr')[2]): row['loss'] for row in others}
        losses[1.0] = next(row['loss'] for row in rows if row['name'] == name)
        best = min(losses, key=losses.__getitem__)
        told.append(
            {
                'run': name,
                'losses': {f'{factor:g}': losses[factor] for factor in sorted(losses)},
                'best': best,
                'interior': min(losses) < best < max(losses),
            }
        )
    return told


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader, as Markdown."""
    lines = ['| budget | params | without embeddings | tokens | loss |', '|---' * 5 + '|']
    lines += [
        f'| {p["budget"]:.3g} | {p["params"]:,} | {p["params_non_embedding"]:,} | '
        f'{p["tokens"]:,} | {p["loss"]:.4f} |'
        for p in result['points']
    ]
    lines.append('')
    for counted, laws in result['laws'].items():
        for way in ('parabola', 'exponentials'):
            if way in laws:
                lines.append(f'N* ~ C^{laws[way]["a"]:.3f}: parameters {counted}, {way}')
        lines += [f'  dropped {d["flops"]:.3g}: {d["reason"]}' for d in laws.get('dropped', [])]
        if 'unavailable' in laws:
            lines.append(f'parameters {counted}: {laws["unavailable"]}')
    for one in result['learning_rates']:
        losses = ', '.join(f'x{factor} {loss:.4f}' for factor, loss in one['losses'].items())
        place = 'interior' if one['interior'] else 'AT THE EDGE'
        lines.append(f'learning rates of {one["run"]}: {losses}; best x{one["best"]:g}, {place}')
    return '\n'.join([*lines, '', *_fate(result)])


def _fate(result: Mapping[str, Any]) -> list[str]:
    told, found = result['prediction'], result['found']
    lines = [
        f'at {told["flops"]:.3g} FLOPs, from {len(told["from_budgets"])} smaller budgets, with '
        f'{told["level"]:.0%} intervals:'
    ]
    for method, one in told['approaches'].items():
        if one['loss'] is None:
            lines.append(f'  {method:<10} loss   not foretold: the losses do not fall as a law')
        for name in ('loss', 'params'):
            if name not in one['intervals']:
                continue
            low, high = one['intervals'][name]
            hit = 'HIT' if result['hits'][method][name] else 'MISS'
            lines.append(
                f'  {method:<10} {name:<6} {one[name]:.5g} [{low:.5g}, {high:.5g}]  found '
                f'{found[name]:.5g}: {hit}'
            )
    return lines + [f'  {name}: {why}' for name, why in told['unavailable'].items()]


def plot(result: Mapping[str, Any], path: str) -> None:
    """Bowls by budget; N* by C, both ways of counting; best losses beside what was foretold."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (bowls, sizes, losses) = pyplot.subplots(1, 3, figsize=(15, 4.5))
    _draw_bowls(bowls, result)
    for counted, mark in zip(COUNTED, 'os', strict=True):
        law = result['laws'][counted].get('parabola')
        if law:
            flops, params = (np.array([o[n] for o in law['optima']]) for n in ('flops', 'params'))
            label = f'{counted}: C^{law["a"]:.2f}'
            [line] = sizes.plot(flops, params, mark, label=label)
            power = regress(flops, params)
            ends = np.array([flops.min(), flops.max()])
            sizes.plot(ends, [power(c) for c in ends], '-', color=line.get_color(), linewidth=1)
    sizes.set(xscale='log', yscale='log', xlabel='FLOPs (6 N D, N as counted)', ylabel='best size')
    sizes.set_title('Parameters counted ...')
    if sizes.lines:
        sizes.legend(fontsize='small')
    _draw_prediction(losses, result)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_bowls(axes: Any, result: Mapping[str, Any]) -> None:
    budgets = sorted({point['budget'] for point in result['points']})
    for i, budget in enumerate(budgets):
        mine = [point for point in result['points'] if point['budget'] == budget]
        x = np.log([point['params'] for point in mine])
        y = np.array([point['loss'] for point in mine])
        color = f'C{i}'
        axes.plot(np.exp(x), y, 'o', color=color, label=f'{budget:.2g} FLOPs')
        curve = np.polynomial.Polynomial.fit(x, y, 2)
        along = np.linspace(x.min(), x.max(), 50)
        axes.plot(np.exp(along), curve(along), '-', color=color, linewidth=1)
    axes.set(xscale='log', xlabel='parameters', ylabel='held-out loss, nats a target')
    axes.set_title('Runs of equal compute')
    axes.legend(fontsize='small')


def _draw_prediction(axes: Any, result: Mapping[str, Any]) -> None:
    points, told = result['points'], result['prediction']
    budgets = sorted({point['budget'] for point in points})
    best = [min(p['loss'] for p in points if p['budget'] == budget) for budget in budgets]
    axes.plot(budgets, best, 'k.', label='best run')
    axes.plot([told['flops']], [result['found']['loss']], 'k*', markersize=11, label='found')
    for i, (method, one) in enumerate(told['approaches'].items()):
        if one['loss'] is None or 'loss' not in one['intervals']:
            continue
        low, high = one['intervals']['loss']
        reach = [[max(one['loss'] - low, 0)], [max(high - one['loss'], 0)]]
        axes.errorbar(
            [told['flops'] * 1.08 ** (i + 1)], [one['loss']], yerr=reach, fmt='o', color=f'C{i}',
            capsize=3, label=f'foretold, {method}',
        )  # fmt: skip
    axes.set(xscale='log', xlabel='FLOPs', ylabel='held-out loss, nats a target')
    axes.set_xticks(budgets, [f'{budget:.1e}' for budget in budgets])
    axes.minorticks_off()
    axes.set_title(f'Foretold from smaller budgets, {told["level"]:.0%}')
    axes.legend(fontsize='small')
