"""The part of `lm plan` that compiles: strategies of a plan, each beside what its compiler says."""

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lm.config import Config
from lm.errors import UserError
from lm.planning.advice import advice
from lm.planning.memory import STRATEGIES, Strategy
from lm.planning.plan import Plan
from lm.planning.topology import Topology, described_devices

if TYPE_CHECKING:
    import jax

FAR = 2
"""What by the plan needs more than so many times a device's memory is not compiled; a compiler may
find as much less (docs/LOG.md, "`lm plan --compile`")."""


def compiled_plan(
    plan: Plan, strategies: list[Strategy], topology: Topology | None
) -> tuple[dict[str, Any], str]:
    """Compiles the step under each strategy; what was found, as JSON and as text.

    Prints to stderr what the plan says of each before any is compiled.

    Raises:
      UserError: no such devices here, nothing to compile with, or a config that the mesh or the
        objective refuses.
    """
    from lm.planning.compiled import compile_step
    from lm.planning.compiled_report import as_json, as_text
    from lm.training.lowering import lower_step

    assert plan.config is not None
    memory = None if plan.device is None else plan.device.memory
    devices = _devices(plan, topology)
    for strategy in strategies:
        words = advice(plan, strategy)
        if words is not None:
            print(f'{strategy:<6} {words}', file=sys.stderr)
    numbers: dict[str, Any] = {}
    texts = []
    for strategy in strategies:
        memory_of = plan.memory(strategy)
        # A CPU's compiler counts the host's memory with the device's.
        host = memory_of.host if topology is None else 0
        planned, room = memory_of.total + host, None if memory is None else memory + host
        found = None
        if memory is None or memory_of.total <= FAR * memory:
            laid = _laid(plan.config, plan, strategy)
            found = compile_step(lower_step(laid, devices))
        numbers[strategy] = as_json(found, planned, room, advice(plan, strategy))
        texts.append(as_text(strategy, found, planned, room))
    return numbers, '\n\n'.join(texts)


def for_platform(config: Config, topology: Topology | None) -> Config:
    """`config` with the precision policy that `lm train` would choose there."""
    from lm.training.program import resolve_policy

    return resolve_policy(config, 'cpu' if topology is None else topology.platform)


def start_jax(devices: int, quiet: bool = False) -> None:
    """Sets what jax reads when it starts: so many CPU devices alone, and no cache of programs.

    Those compiled for a described slice cannot be read back, and seconds should be the compiler's.

    Args:
      devices: how many of the CPU's.
      quiet: XLA's warnings are left out: that there is no driver of a GPU, say.
    """
    if 'jax' in sys.modules:
        return
    if quiet:
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
    count = f'--xla_force_host_platform_device_count={devices}'
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {count}'.strip()


def _devices(plan: Plan, topology: Topology | None) -> 'list[jax.Device]':
    if topology is not None:
        return described_devices(topology)
    import jax

    here, wanted = jax.devices('cpu'), plan.axes.devices
    if len(here) < wanted:
        raise UserError(f'devices={wanted}: jax has started with {len(here)} CPU devices')
    return here[:wanted]


def _laid(config: Config, plan: Plan, strategy: Strategy) -> Config:
    """`config` on the plan's axes; ddp makes replicas of fsdp."""
    axes = plan.axes
    replica, fsdp = (axes.rows, 1) if strategy == 'ddp' else (axes.replica, axes.fsdp)
    mesh = replace(
        config.mesh,
        strategy=strategy,
        devices=axes.devices,
        replica=replica,
        fsdp=fsdp,
        tensor=axes.tensor,
        seq=axes.seq,
    )
    return replace(config, mesh=mesh)


def chosen(plan: Plan, named: tuple[str, ...]) -> list[Strategy]:
    """The strategies asked for, by default all that the axes have something to split for."""
    unknown = [name for name in named if name not in STRATEGIES]
    if unknown:
        raise UserError(f'strategy={unknown[0]}: must be of {", ".join(STRATEGIES)}')
    if named:
        return [name for name in STRATEGIES if name in named]
    return [*STRATEGIES] if plan.axes.fsdp > 1 else ['ddp']
