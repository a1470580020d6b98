"""A plan as text: the strategies side by side."""

from lm.planning.advice import advice, gigabytes
from lm.planning.memory import ESTIMATES, PARTS
from lm.planning.plan import Plan, StrategyPlan

WIDTH = 34


def as_text(plan: Plan) -> str:
    """What is planned, a table of the strategies, FLOPs by group, and whether it fits."""
    found = plan.strategies()
    columns = list(found.values())
    blocks = [
        '\n'.join(_heading(plan)),
        '\n'.join([_row('GB a device', list(found)), *_memory(columns)]),
    ]
    if plan.model is not None:
        blocks.append('\n'.join(_by_remat(columns[0])))
    if any(column.time for column in columns):
        blocks.append('\n'.join([_row('seconds a step, at least', list(found)), *_time(columns)]))
    if plan.model is not None:
        blocks.append('\n'.join(_flops(plan)))
    if plan.device is None:
        blocks.append(
            'Name a device (device_kind) to see whether it fits, and how long a step takes.'
        )
    else:
        blocks.append('\n'.join(f'{name:<6} {advice(plan, name)}' for name in found))
    return '\n\n'.join(blocks)


def _heading(plan: Plan) -> list[str]:
    recipe, axes = plan.recipe, plan.axes
    sizes = {'replica': axes.replica, 'fsdp': axes.fsdp, 'tensor': axes.tensor, 'seq': axes.seq}
    laid = ' x '.join(f'{name} {size}' for name, size in sizes.items() if size > 1) or 'no axis'
    parts = (
        f'{recipe.weights} weights + {recipe.gradients} gradients + '
        f'{recipe.optimizer:.3g} optimizer'
    )
    if recipe.cast:
        parts += f' + {recipe.cast} transient cast'
    if recipe.temporaries:
        parts += f' + {recipe.temporaries} activations and temporaries'
    lines = [
        f'{plan.params:,.0f} parameters, devices: {axes.devices} ({laid})',
        f'{recipe.name}: {parts} = {recipe.total:.3g} bytes a parameter ({recipe.source})',
    ]
    if plan.device is not None:
        device = plan.device
        lines.append(
            f'{device.name}: {gigabytes(device.memory)}, {device.bandwidth / 1e9:,.0f} GB/s, '
            f'{device.peak(recipe.products) / 1e12:,.0f} TFLOP/s, links {device.link / 1e9:,.0f} '
            f'and between hosts {device.network / 1e9:,.3g} GB/s ({device.source})'
        )
    if plan.config is not None:
        train = plan.config.train
        lines.append(
            f'rows a step: {train.batch_size}, microbatches: {train.microbatches}, remat: '
            f'{plan.config.model.remat}'
        )
        if train.budget is not None:
            known = 'timed when the run begins' if plan.steps is None else f'{plan.steps:,}'
            lines.append(f'steps: {known} (train.{train.budget}={getattr(train, train.budget):g})')
    return [*lines, 'GB = 1e9 bytes; ~ marks an estimate']


def _memory(columns: list[StrategyPlan]) -> list[str]:
    lines = []
    for name in PARTS:
        sizes = [getattr(column.memory, name) for column in columns]
        if any(sizes):
            words = name.replace('_', ' ')
            mark = '~ ' if name in ESTIMATES else '  '
            lines.append(_row(mark + words, [_number(size) for size in sizes]))
    lines.append(_row('  in all', [_number(column.memory.total) for column in columns]))
    if any(column.memory.host for column in columns):
        sizes = [_number(column.memory.host) for column in columns]
        lines.append(_row('  with the host, for a device', sizes))
    if all(column.host_bytes is not None for column in columns):
        sizes = [_number(column.host_bytes or 0) for column in columns]
        lines.append(_row('~ host memory while saving', sizes))
    return lines


def _by_remat(column: StrategyPlan) -> list[str]:
    sizes = ', '.join(
        f'{remat} {gigabytes(size)}' for remat, size in column.activations_by_remat.items()
    )
    return [f'~ activations and logits a device by model.remat: {sizes}']


def _time(columns: list[StrategyPlan]) -> list[str]:
    times = [column.time for column in columns if column.time is not None]
    rows = {
        '~ arithmetic': [time.compute for time in times],
        '~ device memory': [time.memory for time in times],
        '~ links': [time.links for time in times],
        '~ side by side': [time.overlapped for time in times],
        '~ one after another': [time.in_turn for time in times],
    }
    lines = [_row(name, [f'{value:.3g}' for value in values]) for name, values in rows.items()]
    lines.append(_row('  bound by', [time.bound for time in times]))
    if any(column.memory.host for column in columns):
        lines.append('  What passes between device and host is not counted.')
    return lines


def _flops(plan: Plan) -> list[str]:
    counted = plan.flops()
    assert counted is not None and plan.config is not None
    rows, lines = plan.config.train.batch_size, []
    for count in counted:
        lines.append(f'{rows * count.row:.4g} FLOPs a step ({count.rule})')
        lines += [f'  {group:<28}{rows * n:>12.4g}' for group, n in count.by_group.items()]
    return lines


def _row(name: str, cells: list[str]) -> str:
    return f'{name:<{WIDTH}}' + ''.join(f'{cell:>12}' for cell in cells)


def _number(size: float) -> str:
    value = size / 1e9
    return f'{value:,.0f}' if value >= 1000 else f'{value:.4g}'
