"""What does each strategy cost and save? One model under all of them: bytes, collectives, time.

Command: python -m experiments.zero_memory [--config=NAME] [--devices=8] [--steps=10] [--plot=FILE]
Hardware: any devices; where there is one CPU, `--devices` are emulated.
Time: two minutes on 2 CPU cores.
Expected: on n devices and P parameters of 4 bytes the state at rest is 12 P, under zero1 and zero2
    4 P + 8 P / n, under zero3 12 P / n, of which offload has 8 P / n in the host's memory; a step
    moves 2 P, 3 P, 2 P and 3 P numbers a device, with one P more under zero2 and zero3 where the
    compiler has no reduce-scatter (CPU). `largest_gap`, of losses to ddp's, is rounding.

Layers are scanned and recomputed in the backward pass, so that temporaries show the strategy.
Batches are random tokens, the same for all. Emulated devices share two cores: their times compare
strategies, no machines.
"""

import statistics
import sys
from typing import Any

from lm.config import Config, require
from lm.flags import Flags

from ._command import run_command
from ._timed_steps import TimedSteps, emulate, with_vocabulary

STRATEGIES: dict[str, dict[str, Any]] = {
    'ddp': {'mesh.strategy': 'ddp'},
    'zero1': {'mesh.strategy': 'zero1'},
    'zero2': {'mesh.strategy': 'zero2'},
    'zero3': {'mesh.strategy': 'zero3'},
    'hybrid': {'mesh.strategy': 'zero3', 'mesh.replica': 2},
    'offload': {'mesh.strategy': 'zero3', 'mesh.offload': 'optimizer'},
    'zero2 explicit': {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'},
    'zero3 explicit': {'mesh.strategy': 'zero3', 'mesh.collectives': 'explicit'},
}


def configs(name: str, devices: int, steps: int) -> dict[str, Config]:
    """The runs by strategy, alike but for the mesh.

    Raises:
      UserError: no such config, or devices that the strategies cannot share.
    """
    import lm

    require(devices >= 4 and devices % 2 == 0, f'devices={devices}: give an even number from 4 on')
    shared = {
        'train.steps': steps, 'mesh.devices': devices, 'optim.warmup_steps': 0,
        'model.scan_layers': True, 'model.remat': 'full',
    }  # fmt: skip
    return {
        strategy: lm.load_config(name, **{**shared, **mesh})
        for strategy, mesh in STRATEGIES.items()
    }


def measure(config: Config) -> dict[str, Any]:
    """One strategy: bytes a device, numbers moved, seconds a step, and the losses."""
    import jax

    from lm.mesh.host_offload import is_in_host_memory
    from lm.planning.collectives import collectives

    steps = TimedSteps(config)
    memory = steps.compiled.memory_analysis()
    moved: dict[str, int] = {}
    for one in collectives(steps.compiled.as_text()):
        moved[one.kind] = moved.get(one.kind, 0) + one.moved
    held = {'device': 0, 'host': 0}
    for leaf in jax.tree.leaves(steps.state):
        held['host' if is_in_host_memory(leaf) else 'device'] += sum(
            shard.data.nbytes for shard in leaf.addressable_shards if shard.device.id == 0
        )
    for _ in range(config.train.steps):
        steps.step()
    return {
        'params': steps.params,
        'state_bytes': held['device'],
        'state_bytes_per_param': held['device'] / steps.params,
        'host_bytes_per_param': held['host'] / steps.params,
        'temp_bytes': memory.temp_size_in_bytes,
        'moved_per_param': {kind: elements / steps.params for kind, elements in moved.items()},
        'step_seconds': statistics.median(steps.seconds[1:]),
        'losses': steps.losses,
    }


def analyze(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All strategies side by side, each beside ddp."""
    reference = found['ddp']['losses']
    rows = {}
    for name, one in found.items():
        gaps = [abs(a - b) for a, b in zip(one['losses'], reference, strict=True)]
        rows[name] = {
            **{key: value for key, value in one.items() if key != 'losses'},
            'moved_per_param_in_all': sum(one['moved_per_param'].values()),
            'largest_gap': max(gaps),
        }
    return rows


def plot(rows: dict[str, Any], path: str) -> None:
    """State and temporaries a device, as bars."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    names = list(rows)
    state = [rows[name]['state_bytes'] / 1e6 for name in names]
    temp = [rows[name]['temp_bytes'] / 1e6 for name in names]
    axes.bar(names, state, label='state at rest')
    axes.bar(names, temp, bottom=state, label='temporaries of a step')
    axes.set_ylabel('MB a device')
    axes.tick_params(axis='x', rotation=20)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> int:
    """Prints the table as one JSON object."""
    return run_command('zero_memory', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('config', str, 'llama_tiny', 'a named config or FILE.py')
    flags.define('devices', int, 8, 'devices; emulated where there is one CPU')
    flags.define('steps', int, 10, 'steps of each strategy')
    flags.define('vocab_size', int, 1024, 'tokens of the random text')
    flags.define('plot', str, '', 'a PNG of the bytes; empty: none')


def _run(flags: Flags) -> dict[str, Any]:
    emulate(flags['devices'])
    runs = configs(flags['config'], flags['devices'], flags['steps'])
    found = {}
    for name, config in runs.items():
        print(name, file=sys.stderr)
        found[name] = measure(with_vocabulary(config, flags['vocab_size']))
    rows = analyze(found)
    if flags['plot']:
        plot(rows, flags['plot'])
    return rows


if __name__ == '__main__':
    sys.exit(main())
