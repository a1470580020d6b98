"""The study of domain adaptation for a reader: a table as Markdown, and the forgetting curves."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

WHATS = ('target', 'general', 'task')


def table(result: Mapping[str, Any]) -> str:
    """A row an arm of a domain: both texts' bits per byte and the task's score, with changes."""
    bits, change = 'bits per byte', 'change ± 95 %'
    lines = [
        f'| | arm | target, {bits} | {change} | general, {bits} | {change} | task | {change} |',
        '|---' * 8 + '|',
    ]
    for domain, found in result.items():
        lines.append(_row(domain, 'before', found['before'], {}))
        for arm, row in found['adapted'].items():
            lines.append(_row(domain, arm, row, row['change']))
        for arm, row in found['from scratch'].items():
            seeds = len(row['target'])
            if seeds:
                name = f'{arm}, from scratch ({seeds} seed{"s" if seeds > 1 else ""})'
                lines.append(_row(domain, name, row, {}))
    return '\n'.join(lines)


def _row(
    domain: str, arm: str, values: Mapping[str, Sequence[float]], changes: Mapping[str, Any]
) -> str:
    cells = [domain, arm]
    for what in WHATS:
        cells.append(f'{statistics.fmean(values[what]):.3f}')
        change = changes.get(what)
        cells.append(f'{change["mean"]:+.3f} ± {change["plus_minus_95"]:.3f}' if change else '')
    return f'| {" | ".join(cells)} |'


def plot(result: Mapping[str, Any], path: str) -> None:
    """A column a domain: its own text above, the general one below, a line an arm over steps.

    Thin lines are seeds, the thick one their mean.
    """
    # Not by pyplot: its backend belongs to the notebook that the study may be run from.
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(result), 5.2), layout='constrained')
    grid = figure.subplots(2, len(result), sharex=True, squeeze=False)
    for column, (domain, found) in enumerate(result.items()):
        for axes, what in zip(grid[:, column], WHATS, strict=False):
            for number, (arm, row) in enumerate(found['adapted'].items()):
                curves = row['curves'][what]
                for curve in curves:
                    axes.plot(row['steps'], curve, color=f'C{number}', lw=0.5, alpha=0.5)
                mean = [statistics.fmean(values) for values in zip(*curves, strict=True)]
                axes.plot(row['steps'], mean, 'o-', color=f'C{number}', ms=3, label=arm)
            axes.set_title(domain if what == 'target' else f'general text, going on in {domain}')
            axes.title.set_fontsize('small')
            axes.grid(alpha=0.3)
        grid[1, column].set_xlabel('steps of adaptation')
    for axes in grid[:, 0]:
        axes.set_ylabel('bits per byte, held out')
    grid[0, 0].legend(fontsize='small')
    figure.savefig(path)
