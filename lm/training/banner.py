"""What a run says of itself before its first step."""

from collections.abc import Collection
from importlib.util import find_spec

import jax
import numpy as np

from lm.attention.kernel import chip_of
from lm.data.mixture import Mixture
from lm.mesh.host_memory import PLUGINS
from lm.planning.counts import ParameterCount
from lm.precision.native import emulations
from lm.training.program import Program
from lm.training.state_table import state_table


def device_words() -> str:
    """Count, platform and kind of the devices: `8 x cpu (TFRT_CPU)`."""
    devices = jax.devices()
    return f'{len(devices)} x {devices[0].platform} ({devices[0].device_kind})'


def state_dtypes(program: Program) -> dict[str, str]:
    """The dtypes of what is held and computed with; of what is held read off the abstract state.

    A gradient is of its parameter's dtype.
    """
    state, policy = program.abstract_state, program.policy

    def of(tree: object) -> str:
        kinds = {str(np.dtype(x.dtype)) for x in jax.tree.leaves(tree) if x.ndim > 0}
        return ', '.join(sorted(kinds)) or 'none'

    return {
        'params': of(state.params),
        'gradients': of(state.params),
        'opt_state': of(state.opt_state),
        'compute': policy.compute_dtype,
        'products': policy.products,
        'matmul_precision': policy.matmul_precision,
        'logits': policy.logits_dtype,
    }


def mixture_words(mixture: Mixture, watched: Collection[str]) -> str:
    """A line with the share of rows that each source gets, nothing of a single one; and a line
    with the texts that are scored beside them (`eval.sources`), if there are any."""
    words = ''
    if len(mixture.names) > 1:
        pairs = zip(mixture.names, mixture.shares, strict=True)
        words += '\nrows from  ' + ', '.join(f'{name} {share:.2%}' for name, share in pairs)
    return words + (f'\nscored too {", ".join(watched)}' if watched else '')


def banner(program: Program, count: ParameterCount) -> str:
    """Devices, mesh, dtypes, attention kernel, and the state by parameter."""
    config = program.config
    axes = program.layout.mesh.shape.items()
    mesh = ' x '.join(f'{name} {size}' for name, size in axes if size > 1) or '1 device'
    lines = [
        f'model      {config.model.name} ({program.functional.family}), '
        f'{count.total:,} parameters, {count.non_embedding:,} without embeddings'
        + (f', and {count.padding:,} of vocabulary padding' if count.padding else ''),
        f'objective  {config.objective.name}: {config.train.batch_size} rows of '
        f'{config.train.seq_len}, {program.objective.target_len} targets each',
        f'devices    {device_words()}; mesh {mesh}, {config.mesh.strategy}',
        f'precision  {_precision(program)}',
        f'attention  {program.attention_words}',
        '',
        *state_table(program),
    ]
    return '\n'.join(lines)


def _precision(program: Program) -> str:
    """The policy, the dtypes, and what multiplies the loss."""
    dtypes = ', '.join(f'{name} {dtype}' for name, dtype in state_dtypes(program).items())
    words = f'{program.policy.name}: {dtypes}'
    if program.policy.stochastic_rounding:
        words += ', stochastic rounding of parameters and moments'
    if program.scaling is None:
        return words
    kind = 'dynamic, from' if program.scaling.dynamic else 'fixed,'
    return f'{words}, loss scale {kind} {program.scaling.first:g}'


def fallbacks(program: Program) -> list[str]:
    """What runs otherwise than the fastest or plainest reading of the config: --strict refuses."""
    platform = jax.devices()[0].platform
    found = []
    plugins = [name for name in PLUGINS if find_spec(name)]
    if platform == 'cpu' and plugins and jax.config.values['jax_platforms'] != 'cpu':
        found.append(
            f'{plugins[0]} is installed but JAX sees no device of it: this runs on the CPU'
        )
    if platform != 'cpu' and program.kernel.name == 'xla':
        found.append(
            f'attention runs on XLA, not on a fused kernel of the {platform}: '
            f'{program.kernel.reason or "there is none here"}'
        )
    # By itself a CPU takes blocks where it can: what it takes no blocks for is no fallback.
    if platform != 'cpu' or program.config.mesh.attention != 'auto':
        found += [
            f'attention of the {name} runs on XLA, not on {program.kernel.name}: {why}'
            for name, why in program.kernel.left_behind.items()
        ]
    device = program.layout.mesh.devices.flat[0]
    found += emulations(program.policy, chip_of(device), device.device_kind)
    found += _moments_that_stand_still(program)
    return [*found, *_undivided(program)]


def _moments_that_stand_still(program: Program) -> list[str]:
    """Decay rates nearer to 1 than half a step of bf16, where moments are kept in it."""
    policy, options = program.policy, program.config.optim.options
    if policy.param_dtype != 'bfloat16' or policy.stochastic_rounding:
        return []
    return [
        f'optim.options.{name}={value}: a moment in bf16, rounded to nearest, does not decay by so '
        'little; set precision.stochastic_rounding=True, or a lower rate'
        for name, value in vars(options).items()
        if isinstance(value, float) and 1 - 2**-8 < value < 1
    ]


def _undivided(program: Program) -> list[str]:
    """What the mesh should split and cannot."""
    axes, config = program.layout.mesh.shape, program.config
    lengths = {'train.seq_len': config.train.seq_len}
    if program.functional.family == 'encoder_decoder':
        lengths["the decoder's length"] = program.objective.target_len
    return [
        f'mesh.seq={axes["seq"]} does not divide {name}={length}: every device computes all of them'
        for name, length in lengths.items()
        if length % axes['seq']
    ] + [
        f'mesh.fsdp={axes["fsdp"]} divides no dimension of {path}: every device holds all of it'
        for path in program.placement.undivided
    ]
