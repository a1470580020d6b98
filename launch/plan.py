"""Says what a run needs before it exists: memory a device, FLOPs, time of a step.

Of a config (`--config`, with overrides as `lm train` takes them) or of a number of parameters
(`--params=7.5e9`), under ddp and zero1 to zero3 side by side. The axes of the mesh are flags; those
of the config are not read. Needs no accelerator and no jax: everything is computed in closed form,
and what is an estimate is marked so.
"""

import json

from lm.errors import UserError
from lm.flags import Flags
from lm.planning.devices import DEVICES
from lm.planning.plan import Plan, plan
from lm.planning.plan_json import as_json
from lm.planning.plan_text import as_text
from lm.planning.recipes import RECIPES
from lm.planning.textbook import accounting, zero_table

OWN = ('params', 'devices', 'recipe', 'device_kind', 'replica', 'fsdp', 'tensor', 'seq')
"""Flags whose names begin the errors about them."""


def define_flags(flags: Flags) -> None:
    """What is planned, on what."""
    flags.define('params', float | None, None, 'a number of parameters, instead of --config')
    flags.define('devices', int, 1, 'how many devices')
    flags.define('device_kind', str, '', f'which: {", ".join(DEVICES)}; empty: no time, no verdict')
    flags.define(
        'recipe', str, '',
        f"bytes a parameter: {', '.join(RECIPES)}; empty: the config's own, or bf16_mixed",
    )  # fmt: skip
    flags.define('replica', int | None, None, 'groups that each hold the whole state')
    flags.define('fsdp', int | None, None, 'devices that zero1 to zero3 split over; none: the rest')
    flags.define('tensor', int, 1, 'devices that heads, feed-forward and vocabulary are split over')
    flags.define('seq', int, 1, 'devices that the positions of a row are split over')
    flags.define('json', bool, False, 'print one JSON object, by strategy')
    flags.define_config('quickstart')


def main(flags: Flags) -> None:
    """Prints the plan."""
    try:
        found = _plan(flags)
    except UserError as error:
        message = str(error)
        raise UserError(f'--{message}' if message.startswith(OWN) else message) from error
    if flags['json']:
        print(json.dumps(as_json(found)))
    else:
        print('\n\n'.join([as_text(found), accounting(), zero_table()]))


def _plan(flags: Flags) -> Plan:
    with_config = flags.given('config') or flags.given('config.')
    if flags.given('params') and with_config:
        raise UserError('params: give it or --config, not both')
    if not flags.given('params') and not flags.given('config'):
        raise UserError('params: missing; give a number of parameters, or --config')
    given = {name: flags[name] for name in OWN}
    return plan(flags.config() if with_config else None, **given)
