"""A plan as plain numbers, ready for `json.dump`."""

from typing import Any

from lm.planning.advice import advice
from lm.planning.flops import FlopCount
from lm.planning.memory import ESTIMATES, PARTS
from lm.planning.plan import Plan, StrategyPlan
from lm.planning.roofline import Roofline


def as_json(plan: Plan) -> dict[str, dict[str, Any]]:
    """By strategy; what does not depend on it (parameters, FLOPs) is in each."""
    about: dict[str, Any] = {
        'params': round(plan.params),
        'devices': plan.axes.devices,
        'recipe': plan.recipe.name,
    }
    counted = plan.flops()
    if counted is not None and plan.config is not None:
        rows = plan.config.train.batch_size
        about['steps'] = plan.steps
        about['flops_per_step'] = [_flops(count, rows) for count in counted]
    return {
        strategy: {**_strategy(found), 'advice': advice(plan, strategy), **about}
        for strategy, found in plan.strategies().items()
    }


def _strategy(found: StrategyPlan) -> dict[str, Any]:
    parts = {f'{name}_bytes': round(getattr(found.memory, name)) for name in PARTS}
    about: dict[str, Any] = {
        'per_device_bytes': round(found.memory.total),
        **parts,
        'estimates': [f'{name}_bytes' for name in ESTIMATES if parts[f'{name}_bytes']],
        'fits': found.fits,
    }
    if found.activations_by_remat:
        about['activations_by_remat'] = {
            remat: round(size) for remat, size in found.activations_by_remat.items()
        }
    if found.memory.host:
        about['offloaded_bytes'] = round(found.memory.host)
    if found.host_bytes is not None:
        about['host_bytes_while_saving'] = round(found.host_bytes)
    if found.time is not None:
        about['step_seconds'] = _seconds(found.time)
    return about


def _seconds(time: Roofline) -> dict[str, float | str]:
    return {
        'compute': time.compute,
        'memory': time.memory,
        'links': time.links,
        'overlapped': time.overlapped,
        'in_turn': time.in_turn,
        'bound': time.bound,
    }


def _flops(count: FlopCount, rows: int) -> dict[str, Any]:
    by_group = {name: rows * flops for name, flops in count.by_group.items()}
    return {'rule': count.rule, 'flops': rows * count.row, 'by_group': by_group}
