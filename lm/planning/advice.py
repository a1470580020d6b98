"""Whether a plan fits, and what to change first where it does not."""

from collections.abc import Iterator
from dataclasses import replace

from lm.planning.activations import REMATS
from lm.planning.memory import STRATEGIES, Strategy
from lm.planning.plan import USABLE, Plan


def advice(plan: Plan, strategy: Strategy) -> str | None:
    """Whether the strategy fits, and if not what to change first; None without a device."""
    if plan.device is None:
        return None
    total, usable = plan.memory(strategy).total, USABLE * plan.device.memory
    room = f'{gigabytes(total)} of {gigabytes(usable)} usable'
    if total <= usable:
        return f'fits ({room})'
    best, least = '', total
    for words, changed, other in _changes(plan, strategy):
        needed = changed.memory(other).total
        if needed <= usable:
            return f'does not fit ({room}); change this first: {words} ({gigabytes(needed)})'
        if needed < least:
            best, least = words, needed
    remedy = 'use more devices, or devices with more memory'
    if best:
        remedy += f'; {best} helps most, to {gigabytes(least)}'
    return f'does not fit ({room}), nor does any one change: {remedy}'


def _changes(plan: Plan, strategy: Strategy) -> Iterator[tuple[str, Plan, Strategy]]:
    """Single changes, the cheapest in time first."""
    stages = list(STRATEGIES)
    if plan.axes.fsdp > 1:
        for other in stages[stages.index(strategy) + 1 :]:
            yield f'mesh.strategy={other}', plan, other
    if plan.config is None:
        for factor in (2, 4, 8, 16, 32, 64):
            axes = replace(plan.axes, fsdp=plan.axes.fsdp * factor)
            yield f'zero3 on {axes.devices} devices', replace(plan, axes=axes), 'zero3'
        return
    train, model = plan.config.train, plan.config.model
    parts = train.microbatches * 2
    while train.batch_size % (parts * plan.axes.rows) == 0:
        changed = replace(plan.config, train=replace(train, microbatches=parts))
        yield f'train.microbatches={parts}', replace(plan, config=changed), strategy
        parts *= 2
    for remat in REMATS[REMATS.index(model.remat) + 1 :]:
        changed = replace(plan.config, model=replace(model, remat=remat))
        yield f'model.remat={remat}', replace(plan, config=changed), strategy
    mesh = plan.config.mesh
    offloads = mesh.collectives == 'auto' and plan.memory(strategy).optimizer > 0
    if mesh.offload == 'none' and offloads:
        changed = replace(plan.config, mesh=replace(mesh, offload='optimizer'))
        yield 'mesh.offload=optimizer', replace(plan, config=changed), strategy


def gigabytes(size: float) -> str:
    """Bytes as GB of 1e9, to three digits."""
    value = size / 1e9
    return f'{value:,.0f} GB' if value >= 100 else f'{value:.3g} GB'
