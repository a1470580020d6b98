"""Attention's kernels, forwards and backwards, each in turn on the same arrays, beside torch's.

Command: python -m benchmarks.attention [--rows=8] [--length=256] [--heads=4] [--groups=4]
    [--width=64] [--dtype=float32] [--causal] [--bias] [--segments=1]
    [--kernels=xla,blockwise,torch] [--rounds=15]
Hardware: whatever device is there; `cudnn` needs an NVIDIA GPU, `splash` a TPU, `torch` a CPU.
Expected: on two CPU cores in fp32 blockwise is 1.2 to 2.3 times as fast as a whole mask (`xla`).

Times are of the value and of the gradients of queries, keys, values and, with `--bias`, of a bias
on the scores that all rows share, which is trained as T5's is. `MB` is what the compiled program
takes beside its arguments and results. A ratio is of the medians, this kernel's time over the
first one's.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lm.mesh  # noqa: F401  (memory as a run has it: freed blocks stay with the process)
from lm.attention.kernel import Use, chip_of, choose
from lm.attention.sight import Sight
from lm.config import require
from lm.flags import Flags
from lm.layout import Layout

from ._command import print_table, run_command
from ._machine import cores, versions

KERNELS = ('xla', 'blockwise', 'cudnn', 'splash', 'torch')
DTYPES = ('float32', 'bfloat16', 'float16')
PAUSE = 0.25
"""Seconds before a turn: torch's threads spin for a while behind their work, on cores of others."""
SIZES = ('rows', 'length', 'heads', 'groups', 'width', 'segments', 'rounds')


def main() -> int:
    """The command; returns its exit status."""
    return run_command('attention', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('rows', int, 8, 'rows of the batch')
    flags.define('length', int, 256, 'positions of a row')
    flags.define('heads', int, 4, 'heads of queries')
    flags.define('groups', int, 4, 'heads of keys and values; divides --heads')
    flags.define('width', int, 64, 'of a head')
    flags.define('dtype', str, 'float32', 'of queries, keys and values')
    flags.define('causal', bool, False, 'hide later keys')
    flags.define('bias', bool, False, 'add a trained bias to the scores')
    flags.define('segments', int, 1, 'segments a row, of nearly one length')
    flags.define('kernels', tuple[str, ...], ('xla', 'blockwise', 'torch'), 'the first is the base')
    flags.define('rounds', int, 15, 'turns of each kernel')


def _run(flags: Flags) -> dict[str, Any]:
    for name in SIZES:
        require(flags[name] >= 1, f'--{name}={flags[name]}: must be at least 1')
    heads, groups = flags['heads'], flags['groups']
    require(heads % groups == 0, f'--groups={groups}: must divide --heads={heads}')
    for name in flags['kernels']:
        require(name in KERNELS, f'--kernels={name}: take some of {", ".join(KERNELS)}')
    require(flags['dtype'] in DTYPES, f'--dtype={flags["dtype"]}: take one of {", ".join(DTYPES)}')
    if 'torch' in flags['kernels']:
        plain = flags['segments'] == 1 and flags['dtype'] == 'float32'
        require(plain, '--kernels=torch: only of one segment and float32; leave it out')
        there = find_spec('torch') is not None
        require(there, '--kernels=torch: torch is not installed; install it or leave it out')
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    rows, length, width = flags['rows'], flags['length'], flags['width']
    arrays = [normal(rows, length, h, width) for h in (heads, groups, groups, heads)]
    bias_HTS = normal(heads, length, length) if flags['bias'] else None
    ways, megabytes = {}, {}
    for name in flags['kernels']:
        build = _torch if name == 'torch' else _of_lm
        ways[name], megabytes[name] = build(name, flags, arrays, bias_HTS)
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(flags['rounds']):
        for name, way in ways.items():
            time.sleep(PAUSE)
            way()
            begin = time.perf_counter()
            way()
            milliseconds[name].append(1e3 * (time.perf_counter() - begin))
    medians = {name: statistics.median(times) for name, times in milliseconds.items()}
    base = medians[flags['kernels'][0]]
    print_table(
        ['', 'ms', 'spread', 'ratio', 'MB'],
        [
            [
                name,
                f'{medians[name]:.2f}',
                f'{min(times):.2f} to {max(times):.2f}',
                f'{medians[name] / base:.2f}',
                '' if megabytes[name] is None else f'{megabytes[name]:.0f}',
            ]
            for name, times in milliseconds.items()
        ],
    )
    return {
        'device': jax.devices()[0].device_kind,
        'cores': cores(),
        'milliseconds': milliseconds,
        'megabytes': megabytes,
        'versions': versions('jax', 'jaxlib'),
    }


Way = Callable[[], object]
"""The value and the gradients once, waited for."""


def _of_lm(
    name: str, flags: Flags, arrays: list[np.ndarray], bias_HTS: np.ndarray | None
) -> tuple[Way, float | None]:
    rows, length, segments = flags['rows'], flags['length'], flags['segments']
    ids_BT = jnp.asarray(np.tile(1 + np.arange(length) * segments // length, (rows, 1)), jnp.int32)
    use = Use('decoder' if flags['causal'] else 'encoder', length, bias=flags['bias'])
    chip = chip_of(jax.devices()[0])
    kernel = choose(name, chip, flags['dtype'], flags['width'], (use,))  # type: ignore[arg-type]
    layout = Layout()
    layout.kernel = replace(kernel, segments=segments)

    def both(q: jax.Array, k: jax.Array, v: jax.Array, g: jax.Array, bias: Any) -> Any:
        def seen(q: jax.Array, k: jax.Array, v: jax.Array, bias: Any) -> jax.Array:
            sight = Sight(ids_BT, ids_BT, flags['causal'], flags['width'] ** -0.5, bias_HTS=bias)
            return layout.seen(q, k, v, sight)

        value, pull = jax.vjp(seen, q, k, v, bias)
        return value, pull(g)

    given = (*(jnp.asarray(x, flags['dtype']) for x in arrays), bias_HTS)
    given = jax.device_put(given)
    with jax.default_matmul_precision('highest' if flags['dtype'] == 'float32' else 'default'):
        compiled = jax.jit(both).lower(*given).compile()
    jax.block_until_ready(compiled(*given))
    analysis = compiled.memory_analysis()
    taken = None if analysis is None else analysis.temp_size_in_bytes / 1e6
    return lambda: jax.block_until_ready(compiled(*given)), taken


def _torch(
    name: str, flags: Flags, arrays: list[np.ndarray], bias_HTS: np.ndarray | None
) -> tuple[Way, None]:
    import torch

    torch.set_num_threads(cores())
    q, k, v, g = (torch.tensor(x).transpose(1, 2).contiguous() for x in arrays)
    bias = None if bias_HTS is None else torch.tensor(bias_HTS)
    if bias is not None and flags['causal']:
        hidden = torch.ones(bias.shape[1:], dtype=torch.bool).triu(1)
        bias = bias.masked_fill(hidden, float('-inf'))
    inputs = [x for x in (q, k, v, bias) if x is not None]
    for x in inputs:
        x.requires_grad_()

    def way() -> object:
        seen = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, is_causal=flags['causal'] and bias is None,
            enable_gqa=flags['groups'] != flags['heads'],
        )  # fmt: skip
        return torch.autograd.grad(seen, inputs, g)

    way()
    return way, None


if __name__ == '__main__':
    sys.exit(main())
