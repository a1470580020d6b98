"""What does sharding cost, and what does it let one train? T5 of three sizes on 8 to 512 devices.

After Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", sections
5.2 and 5.4: T5 of 611M, 2.28B and 11.3B parameters on A100s of 80 GB; DDP is our ddp, FSDP zero3.

Command: python -m experiments.sharding_throughput [--rows=8] [--steps=50] [--plot=FILE]
Hardware: none for the plan; for the measured part any devices, of one CPU 8 emulated ones.
Time: seconds for the plan; two minutes on 2 CPU cores with the measured part (not `--steps=0`).
Expected: 11.3B does not fit under ddp on any number of devices, 611M and 2.28B do; with remat full
    zero3 and the hybrid hold all three from 8 devices on. Arithmetic is what takes longest, so side
    by side every strategy keeps its rate up to 512 devices; in turn zero3 loses about a tenth.

Planned, in closed form (`lm.plan`): what fits, and TFLOP/s a device as two bounds of the roofline:
arithmetic, device memory and links all beside each other, or in turn, each at its printed rate. The
scaling is weak: `--rows` a device are the same in every cell, so that strategies and device counts
are compared at equal work, as in the paper; `largest_rows` says beside it what else would fit.
FLOPs are the exact count without what remat repeats: MFU, not HFU.

Measured: a small T5 on 1 to 8 devices. Strategies take their steps in turn. Emulated devices share
the cores: only strategies at the same number of devices can be compared.
"""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from lm.config import Config, require
from lm.flags import Flags
from lm.planning.devices import Device, find_device
from lm.planning.flops import RULE_EXACT
from lm.planning.plan import Plan, StrategyPlan, plan
from lm.resolution import override

from ._command import run_command
from ._timed_steps import TimedSteps, emulate, with_vocabulary

SIZES: dict[str, tuple[float, dict[str, int]]] = {
    '611M': (611e6, {'d_model': 1024, 'num_heads': 16, 'head_dim': 64, 'd_ff': 1664}),
    '2.28B': (2.28e9, {'d_model': 2048, 'num_heads': 32, 'head_dim': 64, 'd_ff': 3200}),
    '11.3B': (11.3e9, {'d_model': 1024, 'num_heads': 128, 'head_dim': 128, 'd_ff': 43_520}),
}
"""Parameters, and a T5 1.1 that has them within 1 %, with 24 layers a side and 32,128 tokens.

The paper prints no shapes. T5 1.0 (ungated, tied) of 24 layers has 612M, 2.28B and 11.3B parameters
with the widths of T5 1.1 large and XL, and with its own 11B's. Here the gate and the output matrix
come on top, for which d_ff (2816, 5120, 65,536) is smaller.
"""

STRATEGIES = ('ddp', 'zero1', 'zero2', 'zero3', 'hybrid')
"""Those planned; the hybrid is zero3 within a host, and replicas of it."""

REMATS: tuple[Literal['none', 'full'], ...] = ('none', 'full')

MEASURED: dict[str, dict[str, Any]] = {
    'ddp': {'mesh.strategy': 'ddp'},
    'zero3': {'mesh.strategy': 'zero3'},
    'hybrid': {'mesh.strategy': 'zero3', 'mesh.replica': 2},
}
MEASURED_DEVICES = (1, 2, 4, 8)


def configs(remat: Literal['none', 'full'], rows: int) -> dict[str, Config]:
    """The three models by size, with a batch of so many rows.

    Raises:
      UserError: not one row.
    """
    import lm

    require(rows >= 1, f'rows={rows}: must be at least 1')
    made = {}
    for name, (_, shape) in SIZES.items():
        model = {'num_layers': 24, 'scan_layers': True, 'remat': remat, **shape}
        made[name] = lm.load_config('t5v11_base', model=model, train={'batch_size': rows})
    return made


def on_devices(config: Config, devices: int, device: Device, rows: int) -> dict[str, Plan]:
    """A plan by strategy, with so many rows a device.

    Raises:
      UserError: devices that are no whole hosts.
    """
    host = device.host
    require(
        devices > 0 and devices % host == 0,
        f'devices={devices}: the hybrid splits within hosts of {host}; give multiples of {host}',
    )
    config = override(config, {'train.batch_size': rows * devices})
    flat = plan(config, devices=devices, device_kind=device.name)
    hybrid = plan(config, devices=devices, device_kind=device.name, fsdp=host)
    return {name: hybrid if name == 'hybrid' else flat for name in STRATEGIES}


def planned(one: Plan, strategy: str) -> StrategyPlan:
    """The plan of a strategy of `STRATEGIES`."""
    return one.strategy('zero3' if strategy == 'hybrid' else strategy)  # type: ignore[arg-type]


def cells(devices: tuple[int, ...], device: Device, rows: int) -> Iterator[dict[str, Any]]:
    """Every size, strategy, number of devices and remat: what it holds, whether it fits, how fast.

    Raises:
      UserError: devices that are no whole hosts, or not one row.
    """
    for remat in REMATS:
        for size, config in configs(remat, rows).items():
            for count in devices:
                most = _largest_rows(config, count, device)
                for strategy, one in on_devices(config, count, device, rows).items():
                    yield {
                        'size': size, 'remat': remat, 'devices': count, 'strategy': strategy,
                        **_described(planned(one, strategy), count),
                        'largest_rows': most[strategy],
                    }  # fmt: skip


def _described(found: StrategyPlan, devices: int) -> dict[str, Any]:
    time, memory = found.time, found.memory
    assert time is not None
    flops = time.model_flops / devices / 1e12
    return {
        'bytes_per_device': round(memory.total),
        'state_bytes_per_device': round(memory.state),
        'fits': found.fits,
        'tflops_upper': flops / time.overlapped if found.fits else None,
        'tflops_lower': flops / time.in_turn if found.fits else None,
        'seconds': {'compute': time.compute, 'memory': time.memory, 'links': time.links},
        'bound': time.bound,
    }


def _largest_rows(config: Config, devices: int, device: Device) -> dict[str, int]:
    """The largest power of two of rows a device that fits, by strategy; 0: not one."""
    largest, rows = dict.fromkeys(STRATEGIES, 0), 1
    while True:
        plans = on_devices(config, devices, device, rows)
        fitting = [name for name, one in plans.items() if planned(one, name).fits]
        if not fitting:
            return largest
        largest |= dict.fromkeys(fitting, rows)
        rows *= 2


def measured_configs(name: str, devices: int, rows: int, steps: int) -> dict[str, Config]:
    """The measured runs by strategy on so many devices; the hybrid where it is one.

    Raises:
      UserError: no such config.
    """
    import lm

    shared = {
        'train.steps': steps, 'train.batch_size': rows * devices, 'mesh.devices': devices,
        'optim.warmup_steps': 0, 'model.scan_layers': True,
    }  # fmt: skip
    return {
        strategy: lm.load_config(name, **{**shared, **mesh})
        for strategy, mesh in MEASURED.items()
        if strategy != 'hybrid' or devices >= 4
    }


def measure(runs: dict[str, Config]) -> dict[str, dict[str, Any]]:
    """Seconds a step and tokens a second and device, of strategies that step in turn.

    A strategy's step is compared with the ddp step of the same turn: what else a machine does comes
    and goes more slowly. The first turn is not counted.
    """
    steps = {name: TimedSteps(config) for name, config in runs.items()}
    for _ in range(next(iter(runs.values())).train.steps):
        for one in steps.values():
            one.step()
    found = {}
    for name, one in steps.items():
        train, seconds = runs[name].train, statistics.median(one.seconds[1:])
        tokens = train.batch_size * one.row_tokens / (runs[name].mesh.devices or 1)
        found[name] = {
            'step_seconds': seconds,
            'tokens_per_second_per_device': tokens / seconds,
            'last_loss': one.losses[-1],
            **_over(one.seconds[1:], steps['ddp'].seconds[1:]),
        }
    return found


def _over(seconds: list[float], reference: list[float]) -> dict[str, Any]:
    """The median of the ratios, and their quartiles."""
    ratios = sorted(a / b for a, b in zip(seconds, reference, strict=True))
    quarter = len(ratios) // 4
    return {
        'seconds_over_ddp': statistics.median(ratios),
        'seconds_over_ddp_quartiles': [ratios[quarter], ratios[-1 - quarter]],
    }


def analyze(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What each strategy holds, and what of its TFLOP/s it keeps on the most devices."""
    series: dict[str, list[dict[str, Any]]] = {}
    for cell in found:
        series.setdefault(f'{cell["remat"]} {cell["size"]} {cell["strategy"]}', []).append(cell)
    kept = {}
    for name, line in series.items():
        fitting = [cell for cell in line if cell['fits']]
        first, last = (fitting[0], fitting[-1]) if fitting else (None, None)
        kept[name] = {
            'fits_on': [cell['devices'] for cell in fitting],
            **{
                f'{bound}_kept': last[bound] / first[bound] if first and last else None
                for bound in ('tflops_upper', 'tflops_lower')
            },
        }
    return kept


def counts(rows: int) -> dict[str, Any]:
    """The models: parameters, and FLOPs of a row by both rules."""
    about = {}
    for name, config in configs('none', rows).items():
        one = plan(config)
        counted, target = one.flops(), SIZES[name][0]
        assert counted is not None
        assert abs(one.params / target - 1) < 0.01, f'{name}: {one.params} parameters'
        about[name] = {
            'params': one.params,
            'tokens_a_row': counted[1].tokens,
            'flops_a_row': {count.rule: count.row for count in counted},
        }
    return about


def table(found: list[dict[str, Any]], device: Device, rows: int) -> str:
    """TFLOP/s a device, in turn and side by side, and in brackets the largest rows that fit."""
    devices = list(dict.fromkeys(cell['devices'] for cell in found))
    lines = []
    for remat in REMATS:
        lines.append(
            f'remat {remat}, {rows} rows a {device.name}: TFLOP/s a device (exact count, MFU), '
            'lower to upper bound; in brackets the largest rows that fit'
        )
        lines.append(f'{"devices":<14}' + ''.join(f'{count:>18}' for count in devices))
        for size in SIZES:
            for strategy in STRATEGIES:
                row = [
                    _cell(cell)
                    for cell in found
                    if (cell['remat'], cell['size'], cell['strategy']) == (remat, size, strategy)
                ]
                lines.append(f'{size:<6} {strategy:<7}' + ''.join(f'{text:>18}' for text in row))
        lines.append('')
    return '\n'.join(lines)


def _cell(cell: dict[str, Any]) -> str:
    rows = f'[{cell["largest_rows"]}]'
    if not cell['fits']:
        return f'{cell["bytes_per_device"] / 1e9:,.0f} GB {rows:>6}'
    return f'{cell["tflops_lower"]:.0f} to {cell["tflops_upper"]:.0f} {rows:>6}'


def measured_table(found: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Seconds a step, tokens/s a device and the ratio to ddp."""
    lines = [
        f'{"devices":<10}{"strategy":<10}{"s a step":>10}{"tokens/s a device":>20}'
        f'{"over ddp":>10}{"quartiles":>16}'
    ]
    for devices, rows in found.items():
        for name, row in rows.items():
            lines.append(
                f'{devices:<10}{name:<10}{row["step_seconds"]:>10.4f}'
                f'{row["tokens_per_second_per_device"]:>20.0f}{row["seconds_over_ddp"]:>10.2f}'
                f'{"{:.2f} to {:.2f}".format(*row["seconds_over_ddp_quartiles"]):>16}'
            )
    return '\n'.join(lines)


COLOURS = {
    'ddp': '#d55e00', 'zero1': '#e69f00', 'zero2': '#009e73', 'zero3': '#0072b2',
    'hybrid': '#cc79a7',
}  # fmt: skip
MARKERS = {'ddp': 's', 'zero1': '^', 'zero2': 'v', 'zero3': 'o', 'hybrid': 'D'}
BOUNDS = {'tflops_upper': '-', 'tflops_lower': ':'}


def plot(found: list[dict[str, Any]], device: Device, rows: int, path: str) -> None:
    """TFLOP/s a device against devices: a panel a size and remat, two lines a strategy."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        len(REMATS), len(SIZES), figsize=(12, 7), sharex=True, sharey=True, squeeze=False
    )
    for remat, row in zip(REMATS, grid, strict=True):
        for size, axes in zip(SIZES, row, strict=True):
            panel = [cell for cell in found if (cell['remat'], cell['size']) == (remat, size)]
            _draw(axes, panel)
            axes.set_title(f'{size}, remat {remat}', fontsize=10)
        row[0].set_ylabel('TFLOP/s a device')
    for axes in grid[-1]:
        axes.set_xlabel('devices')
    grid[0][0].set_ylim(bottom=0)
    handles = grid[0][0].get_lines()[:: len(BOUNDS)]
    figure.legend(
        handles, [str(line.get_label()) for line in handles], ncol=len(handles),
        loc='lower center', frameon=False,
    )  # fmt: skip
    figure.suptitle(
        f'Estimated, {rows} rows a device, {device.name}. Arithmetic, memory and links beside each '
        'other (solid) or in turn (dotted)',
        fontsize=11,
    )
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw(axes: Any, panel: list[dict[str, Any]]) -> None:
    """The lines of one size and remat, missing where it does not fit."""
    devices = list(dict.fromkeys(cell['devices'] for cell in panel))
    missing = []
    for i, strategy in enumerate(STRATEGIES):
        line = [cell for cell in panel if cell['strategy'] == strategy]
        if not any(cell['fits'] for cell in line):
            missing.append(strategy)
        for bound, style in BOUNDS.items():
            # Side by side, for many of the bounds coincide.
            places = [count * 2 ** (0.1 * (i - 2)) for count in devices]
            heights = [cell[bound] if cell['fits'] else float('nan') for cell in line]
            axes.plot(
                places, heights, style, color=COLOURS[strategy], label=strategy, linewidth=1,
                marker=MARKERS[strategy], markersize=4.5,
            )  # fmt: skip
    if missing:
        words = f'do not fit: {", ".join(missing)}'
        axes.text(0.03, 0.04, words, transform=axes.transAxes, fontsize=9)
    axes.set_xscale('log', base=2)
    axes.set_xticks(devices, [str(count) for count in devices])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def main() -> int:
    """Prints tables to stderr, and all figures as one JSON object."""
    return run_command('sharding_throughput', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define(
        'devices', tuple[int, ...], (8, 16, 32, 64, 128, 256, 512), 'numbers of devices planned for'
    )
    flags.define('device_kind', str, 'a100-80gb', 'which, as lm plan takes it')
    flags.define('rows', int, 8, 'rows a device in the plan')
    flags.define('config', str, 't5_tiny', 'what is measured: a named config or FILE.py')
    flags.define('measured_rows', int, 4, 'rows a device where it is measured')
    flags.define('steps', int, 50, 'steps measured of each strategy, the first not timed; 0: none')
    flags.define('vocab_size', int, 1024, 'tokens of the random text')
    flags.define('plot', str, '', 'a PNG or SVG of the plan; empty: none')


def _run(flags: Flags) -> dict[str, Any]:
    devices, rows = flags['devices'], flags['rows']
    require(bool(devices), 'devices: give at least one number')
    device = find_device(flags['device_kind'])
    runs, picture = _measured_runs(flags), Path(flags['plot'])
    require(
        not flags['plot'] or (picture.suffix in ('.png', '.svg') and picture.parent.is_dir()),
        f'plot={picture}: give a FILE.png or FILE.svg in a folder that exists',
    )
    found = list(cells(tuple(sorted(set(devices))), device, rows))
    print(table(found, device, rows), file=sys.stderr)
    if flags['plot']:
        plot(found, device, rows, flags['plot'])
    measured = _measured(runs) if runs else {}
    if measured:
        print(measured_table(measured), file=sys.stderr)
    return {
        'device': device.name,
        'rows_a_device': rows,
        'tflops_rule': f'{RULE_EXACT["full"]}; what remat repeats is not counted (MFU)',
        'models': counts(rows),
        'cells': found,
        'scaling': analyze(found),
        'measured': measured,
    }


def _measured_runs(flags: Flags) -> dict[int, dict[str, Config]]:
    """Those to measure, by number of devices; a mistake in them is told before anything is done."""
    steps, rows = flags['steps'], flags['measured_rows']
    require(steps == 0 or steps >= 2, f'steps={steps}: give 0, or at least 2')
    require(rows >= 1, f'measured_rows={rows}: must be at least 1')
    made: dict[int, dict[str, Config]] = {}
    for count in MEASURED_DEVICES if steps else ():
        runs = measured_configs(flags['config'], count, rows, steps)
        size = flags['vocab_size']
        made[count] = {name: with_vocabulary(run, size) for name, run in runs.items()}
    return made


def _measured(runs: dict[int, dict[str, Config]]) -> dict[int, dict[str, dict[str, Any]]]:
    """All of them for which there are devices."""
    emulate(max(runs))
    import jax

    return {count: measure(some) for count, some in runs.items() if count <= jax.device_count()}


if __name__ == '__main__':
    sys.exit(main())
