"""Says what a run needs before it exists: memory a device, FLOPs, time of a step.

Of a config (`--config`, with overrides as `lm train` takes them) or of a number of parameters
(`--params=7.5e9`), under ddp and zero1 to zero3 side by side. The axes of the mesh are flags; those
of the config are not read. Needs no accelerator and no jax: everything is computed in closed form,
and what is an estimate is marked so.

With `--compile` a compiler is asked for the very step that `lm train` would run: on emulated CPU
devices, or ahead of time for a TPU slice (`--topology=v5e:16x16`, with the extra `tpu` and without
a TPU) or for hosts with GPUs (`--topology=h100:8x8`, with the extra `cuda13` and without a GPU). A
strategy that by the closed forms is far from fitting is said to be so and not compiled.
"""

import json
from dataclasses import replace
from typing import Any

from lm.errors import UserError
from lm.flags import Flags
from lm.planning.devices import DEVICES
from lm.planning.plan import Plan, plan
from lm.planning.plan_json import as_json
from lm.planning.plan_text import as_text
from lm.planning.recipes import RECIPES, recipe_of
from lm.planning.textbook import accounting, zero_table
from lm.planning.topology import Topology, find_topology

from ._compiled_plan import chosen, compiled_plan, for_platform, start_jax

AXES = ('replica', 'fsdp', 'tensor', 'seq')
ASKED = ('params', 'devices', 'recipe', 'device_kind', *AXES)
OWN = (*ASKED, 'topology', 'strategy', 'compile')
"""Flags whose names begin the errors about them."""


def define_flags(flags: Flags) -> None:
    """What is planned, on what."""
    flags.define('params', float | None, None, 'a number of parameters, instead of --config')
    flags.define('devices', int, 1, 'how many devices')
    flags.define('device_kind', str, '', f'which: {", ".join(DEVICES)}; empty: no time, no verdict')
    flags.define(
        'topology', str, '',
        'a TPU slice, v5e:16x16 or v5p:8x8x8, or hosts x GPUs, h100:8x8: kind and devices',
    )  # fmt: skip
    flags.define(
        'recipe', str, '',
        f"bytes a parameter: {', '.join(RECIPES)}; empty: the config's own, or bf16_mixed",
    )  # fmt: skip
    flags.define('replica', int | None, None, 'groups that each hold the whole state')
    flags.define('fsdp', int | None, None, 'devices that zero1 to zero3 split over; none: the rest')
    flags.define('tensor', int, 1, 'devices that heads, feed-forward and vocabulary are split over')
    flags.define('seq', int, 1, 'devices that the positions of a row are split over')
    flags.define('compile', bool, False, 'ask the compiler, on CPU devices or for --topology')
    flags.define('strategy', tuple[str, ...], (), 'which to compile; empty: all')
    flags.define('json', bool, False, 'print one JSON object, by strategy')
    flags.define_config('quickstart')


def main(flags: Flags) -> None:
    """Prints the plan."""
    try:
        _print(flags)
    except UserError as error:
        message = str(error)
        raise UserError(f'--{message}' if message.startswith(OWN) else message) from error


def _print(flags: Flags) -> None:
    topology = find_topology(flags['topology']) if flags['topology'] else None
    found = _plan(flags, topology)
    if flags['compile']:
        _print_compiled(flags, found, topology)
        return
    if flags['strategy']:
        raise UserError('strategy: chooses what --compile compiles; a plan shows all')
    if flags['json']:
        print(json.dumps(as_json(found)))
    else:
        print('\n\n'.join([as_text(found), accounting(), zero_table()]))


def _print_compiled(flags: Flags, found: Plan, topology: Topology | None) -> None:
    if found.config is None:
        raise UserError('params: a number of parameters has no step to compile; give --config')
    strategies = chosen(found, flags['strategy'])
    quiet = topology is not None and topology.platform == 'gpu'
    start_jax(1 if topology else found.axes.devices, quiet)
    config = for_platform(found.config, topology)
    if not flags['recipe']:
        found = Plan.of_config(config, recipe_of(config), found.axes, found.device)
    numbers, text = compiled_plan(replace(found, config=config), strategies, topology)
    print(json.dumps(numbers) if flags['json'] else text)


def _plan(flags: Flags, topology: Topology | None) -> Plan:
    with_config = flags.given('config') or flags.given('config.')
    for axis in (*AXES, 'devices'):
        if flags.given(f'config.mesh.{axis}'):
            raise UserError(f"--config.mesh.{axis}: a plan's axes are flags; give --{axis}")
    if flags.given('params') and with_config:
        raise UserError('params: give it or --config, not both')
    if not flags.given('params') and not flags.given('config'):
        raise UserError('params: missing; give a number of parameters, or --config')
    given = {name: flags[name] for name in ASKED}
    if topology is not None:
        given |= _of_topology(flags, topology)
    return plan(flags.config() if with_config else None, **given)


def _of_topology(flags: Flags, topology: Topology) -> dict[str, Any]:
    """The flags that a topology stands for.

    Raises:
      UserError: they are given too, and say otherwise.
    """
    says = {'devices': topology.chips, 'device_kind': topology.kind}
    for name, value in says.items():
        if flags.given(name) and flags[name] != value:
            raise UserError(f'{name}={flags[name]}: {topology} has {value}; leave it out')
    return says
