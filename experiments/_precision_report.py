"""The precision study for a reader: tables as Markdown, and plots."""

from collections.abc import Mapping
from typing import Any

from ._precision_probes import BINS, FP16_SMALLEST, GROUPS, SCALE

LINES = {
    'fp16 subnormal 2^-24': (FP16_SMALLEST, 'C3', '-'),
    'fp16 normal 2^-14': (-14, 'C3', ':'),
    'e5m2 subnormal 2^-16': (-16, 'C2', '--'),
    'fp16 subnormal, scaled by 2^16': (FP16_SMALLEST - SCALE, 'C4', '-.'),
}
"""log2 of formats' smallest numbers, and how they are drawn; bf16's, 2^-133, is far off."""


def table(result: Mapping[str, Any]) -> str:
    """A row an arm and family, and whether the controls behave."""
    lines = [
        '| | arm | loss | gap ± 95 % | detectable | diverged | skipped | '
        'bytes a parameter: weights, gradients, optimizer | step | verdict |',
        '|---' * 10 + '|',
    ]
    for model, rows in result['families'].items():
        lines += [_row(model, name, row) for name, row in rows.items()]
    return '\n'.join([*lines, '', controls_words(result)])


def controls_words(result: Mapping[str, Any]) -> str:
    """One line: whether all controls behave, or which do not."""
    failed = [
        f'{model}, {name} (had to be {row["must"]})'
        for model, rows in result['families'].items()
        for name, row in rows.items()
        if row['behaves'] is False
    ]
    return f'CONTROLS FAILED: {"; ".join(failed)}' if failed else 'All controls behave.'


def _row(model: str, name: str, row: Mapping[str, Any]) -> str:
    losses = [loss for loss in row['losses'] if loss is not None]
    cells = [
        model,
        name,
        f'{sum(losses) / len(losses):.4f}' if losses else '',
        '' if row['gap'] is None else f'{row["gap"]:+.5f} ± {row["plus_minus_95"]:.5f}',
        '' if row['detectable'] is None else f'{row["detectable"]:.2g}',
        f'{row["diverged"]} of {len(row["losses"])}',
        str(row['skipped']),
        bytes_words(row['bytes']),
        '' if row['step_ratio'] is None else f'x{row["step_ratio"]:.2f}',
        row['verdict'] + _control_words(row),
    ]
    return '| ' + ' | '.join(cells) + ' |'


def _control_words(row: Mapping[str, Any]) -> str:
    if row['behaves'] is None:
        return ''
    return f' (control: had to be {row["must"]}, {"is" if row["behaves"] else "**IS NOT**"})'


def bytes_words(sizes: Mapping[str, Mapping[str, float]]) -> str:
    """`4, 4, 8 as planned`, or what was planned instead."""
    words = {
        kind: ', '.join(f'{sizes[kind][group]:.4g}' for group in GROUPS)
        for kind in ('measured', 'planned')
    }
    if sizes['measured'] == sizes['planned']:
        return f'{words["measured"]} as planned'
    return f'{words["measured"]}, **planned {words["planned"]}**'


def underflow_table(result: Mapping[str, Any]) -> str:
    """A row a family, run and gradient."""
    lines = [
        '| | run | gradient of | not 0 | below 2^-24 | the same, times 2^16 |',
        '|---' * 6 + '|',
    ]
    lines += [
        f'| {model} | {run} | {what} | {one["nonzero"]:,} | {one["below"]:.2%} | '
        f'{one["below_scaled"]:.2%} |'
        for model, runs in result['underflow'].items()
        for run, gradients in runs.items()
        for what, one in gradients.items()
    ]
    return '\n'.join(lines)


def plot_gaps(result: Mapping[str, Any], path: str) -> None:
    """A panel a family: each arm's gap with its interval, over what could have been seen."""
    pyplot = _pyplot()
    families = result['families']
    figure, panels = pyplot.subplots(
        1, len(families), figsize=(3 + 3.2 * len(families), 5), sharey=True, squeeze=False
    )
    for axes, (model, rows) in zip(panels[0], families.items(), strict=True):
        drawn = {name: row for name, row in rows.items() if row['reference'] is not None}
        for i, row in enumerate(drawn.values()):
            if row['gap'] is None:
                axes.text(0, i, row['verdict'], va='center', ha='center', fontsize='small')
                continue
            axes.barh(i, 2 * row['detectable'], left=-row['detectable'], color='0.85')
            color = 'C0' if row['must'] is None else 'C1'
            reach = row['plus_minus_95']
            axes.errorbar(row['gap'], i, xerr=reach, fmt='o', color=color, capsize=3)
        axes.axvline(0, color='0.4', linewidth=0.8)
        axes.set_xscale('symlog', linthresh=1e-3)
        axes.set_yticks(range(len(drawn)), list(drawn))
        axes.set_xlabel('gap, nats a target')
        axes.set_title(model)
    panels[0][0].invert_yaxis()
    figure.suptitle(
        'Loss over the reference, 95 % intervals; grey: would not be seen; orange: controls'
    )
    _save(figure, path)


def plot_underflow(result: Mapping[str, Any], path: str) -> None:
    """A panel a family: shares of gradients' magnitudes, and where formats end."""
    pyplot = _pyplot()
    families = result['underflow']
    figure, panels = pyplot.subplots(
        1, len(families), figsize=(1.5 + 3.6 * len(families), 4.2), sharey=True, squeeze=False
    )
    for axes, (model, runs) in zip(panels[0], families.items(), strict=True):
        for (run, gradients), style in zip(runs.items(), ('-', ':'), strict=False):
            for what, color in (('weights', 'C0'), ('logits', 'C1')):
                one = gradients[what]
                shares = [count / max(one['nonzero'], 1) for count in one['counts']]
                axes.stairs(shares, BINS, color=color, linestyle=style, label=f'{what}, {run}')
        for name, (place, color, style) in LINES.items():
            axes.axvline(place, color=color, linestyle=style, linewidth=0.9, label=name)
        axes.set_xlim(-60, 2)
        axes.set_xlabel('log2 of the magnitude (bf16: to -133)')
        axes.set_title(model)
    panels[0][0].set_ylabel('share of the numbers that are not 0')
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='lower center', ncols=4, fontsize='small')
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path)
    pyplot.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: str) -> None:
    figure.tight_layout()
    figure.savefig(path)
    _pyplot().close(figure)
