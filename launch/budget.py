"""Compute of a run before it exists, or the best run for a compute.

Forward: `--params=70e9 --tokens=1.4e12` or `--config=NAME` gives FLOPs by each rule (6 N D,
Kaplan's, Chinchilla's appendix F, exact), PF-days, and days of a device at an MFU. Backward:
`--flops=1e21`, `--pf_days=10`, or `--device=h100 --devices=8 --hours=24` gives the best parameters
and tokens by each published law and, with `--runs=FILE`, by fits of your own; a shape; what other
sizes cost; with `--inference_tokens` the cheapest model over training and use, with
`--unique_tokens` the best one where text must be repeated. `--known` is a table of known models.
Needs no jax.
"""

import json
from typing import Any

from lm.errors import UserError
from lm.fields import require
from lm.flags import Flags
from lm.planning.device_days import SOLD_AS, Accelerator, accelerator, find_accelerator
from lm.planning.devices import PF_DAY

from ._budget_counts import Counted, Family, count_config, count_size
from ._budget_laws import (
    PUBLISHED_ALONE,
    Laws,
    best_spent,
    known_models,
    laws_of_runs,
    price_of,
    shape_told,
)
from ._budget_text import as_text, known_text

DEFAULT_DEVICE = 'a100'
RANGES = {
    'params': (1, 1e30, '70e9'), 'tokens': (1, 1e30, '1.4e12'), 'flops': (1, 1e60, '1e21'),
    'pf_days': (1e-15, 1e40, '10'), 'hours': (1e-6, 1e12, '24'), 'devices': (1, 1e9, '8'),
    'mfu': (1e-6, 1, '0.4'), 'inference_tokens': (1, 1e30, '1e12'),
    'unique_tokens': (1, 1e30, '25e9'), 'vocab_size': (1, 1e9, '32000'),
    'seq_len': (1, 1e9, '2048'),
}  # fmt: skip
"""The least and the most that flags may be, and an example; no product of them overflows."""
ASKS = ('known', 'params', 'config', 'flops', 'pf_days', 'hours')
"""What is asked; one of these."""
NEEDS = {
    'devices': 'device', 'hours': 'device', 'resamples': 'runs', 'level': 'runs', 'seed': 'runs',
}  # fmt: skip
"""Flags that mean nothing without another."""


def define_flags(flags: Flags) -> None:
    """What is counted, or what there is to spend."""
    flags.define('params', float | None, None, 'parameters N, embeddings counted')
    flags.define('tokens', float | None, None, "tokens D; of a config by default its run's")
    flags.define('family', Family, 'decoder', 'with --params: encdec counts 3 N D')
    flags.define('flops', float | None, None, 'compute to spend, FLOP')
    flags.define('pf_days', float | None, None, 'compute to spend, 8.64e19 FLOP each')
    flags.define('hours', float | None, None, 'time to spend, of --device')
    flags.define('device', str, '', f'{", ".join(SOLD_AS)}; empty: {DEFAULT_DEVICE}')
    flags.define('devices', int, 1, 'how many')
    flags.define('mfu', float, 0.4, "share of the device's dense 16-bit peak")
    flags.define('runs', str, '', 'FILE.csv or FILE.jsonl of your runs, as lm fit reads them')
    flags.define('resamples', int, 1000, 'of the bootstrap of your runs; 0: no intervals')
    flags.define('level', float, 0.9, 'what the intervals of your runs are to cover')
    flags.define('seed', int, 0, 'of the bootstrap')
    flags.define('inference_tokens', float | None, None, "tokens of the model's use")
    flags.define('unique_tokens', float | None, None, 'tokens that there are to train on')
    flags.define('vocab_size', int, 32_000, 'of the shape, with --params or backward')
    flags.define('seq_len', int, 2048, 'of attention, with --params')
    flags.define('known', bool, False, 'actual against optimal tokens of known models')
    flags.define('json', bool, False, 'print one JSON object')
    flags.define_config('quickstart')


def main(flags: Flags) -> None:
    """Prints the budget."""
    asked = _asked(flags)
    _check(flags, asked)
    if asked == 'known':
        models = known_models()
        print(json.dumps({'known': models}) if flags['json'] else known_text(models))
        return
    try:
        told = _forward(flags, asked) if asked in ('params', 'config') else _backward(flags, asked)
    except UserError as error:
        message = str(error)
        own = message.split('=')[0].split(':')[0] in (*RANGES, 'device')
        raise UserError(f'--{message}' if own else message) from None
    print(json.dumps(told) if flags['json'] else as_text(told))


def _asked(flags: Flags) -> str:
    """The one flag of `ASKS` that was given."""
    given = [name for name in ASKS if flags.given(name)]
    if 'config' not in given and flags.given('config.'):
        given.append('config')
    if len(given) > 1:
        raise UserError(f'--{given[0]}: give it or --{given[1]}, not both')
    if given:
        return given[0]
    if flags.given('tokens'):
        raise UserError(f'--tokens={flags["tokens"]:g}: of which model? give --params or --config')
    raise UserError(
        '--params: missing; give it with --tokens, or --config, or a compute: --flops, --pf_days, '
        'or --hours with --device'
    )


def _check(flags: Flags, asked: str) -> None:
    """Refuses values out of range, and flags that would be left unread."""
    for name, (least, most, example) in RANGES.items():
        value = flags[name]
        require(
            value is None or least <= value <= most,
            f'--{name}={value}: must be from {least:g} to {most:g}, such as {example}',
        )
    require(0 < flags['level'] < 1, f'--level={flags["level"]}: between 0 and 1, such as 0.9')
    require(
        flags['resamples'] == 0 or flags['resamples'] >= 2,
        f'--resamples={flags["resamples"]}: 0, or at least 2',
    )
    require(flags['seed'] >= 0, f'--seed={flags["seed"]}: must not be negative')
    for name, needed in NEEDS.items():
        if flags.given(name) and not flags[needed]:
            raise UserError(f'--{name}={flags[name]}: needs --{needed} too')
    if asked == 'params' and flags['tokens'] is None:
        raise UserError(f'--params={flags["params"]:g}: needs --tokens too, such as 1.4e12')
    unread = {
        'known': (
            'tokens', 'family', 'device', 'mfu', 'runs', 'inference_tokens', 'unique_tokens',
            'vocab_size', 'seq_len',
        ),
        'config': ('family', 'vocab_size', 'seq_len'),
        'params': (),
    }.get(asked, ('tokens', 'family', 'seq_len'))  # fmt: skip
    for name in unread:
        if flags.given(name):
            raise UserError(f'--{name}={flags[name]}: means nothing with --{asked}; leave it out')


def _forward(flags: Flags, asked: str) -> dict[str, Any]:
    """FLOPs, and what the same compute is best spent on."""
    vocab_size = flags['vocab_size']
    if asked == 'config':
        config = flags.config()
        counted = count_config(config, flags['tokens'])
        vocab_size = config.model.tokens
    else:
        sizes = (flags['params'], flags['tokens'], flags['family'])
        counted = count_size(*sizes, flags['seq_len'], vocab_size)
    told = _count_told(counted) | _devices_told(counted.flops, flags)
    if counted.family != 'decoder':
        _refuse(flags, counted.family)
        return told
    laws = _laws(flags)
    told['choice'] = price_of(laws, counted.params, counted.tokens)
    return told | _spent(flags, laws, 6 * counted.params * counted.tokens, vocab_size)


def _backward(flags: Flags, asked: str) -> dict[str, Any]:
    """What a compute is best spent on."""
    if asked == 'hours':
        device_hours = flags['hours'] * flags['devices']
        flops = find_accelerator(flags['device']).flops(device_hours, flags['mfu'])
    else:
        flops = flags['flops'] if asked == 'flops' else flags['pf_days'] * PF_DAY
    return _devices_told(flops, flags) | _spent(flags, _laws(flags), flops, flags['vocab_size'])


def _laws(flags: Flags) -> Laws:
    if not flags['runs']:
        return PUBLISHED_ALONE
    return laws_of_runs(flags['runs'], flags['resamples'], flags['seed'], flags['level'])


def _spent(flags: Flags, laws: Laws, flops: float, vocab_size: int) -> dict[str, Any]:
    return best_spent(laws, flops, vocab_size, flags['inference_tokens'], flags['unique_tokens'])


def _refuse(flags: Flags, family: str) -> None:
    """Refuses what only the laws and shapes of decoders read."""
    for name in ('runs', 'inference_tokens', 'unique_tokens', 'vocab_size', 'seq_len'):
        if flags.given(name):
            raise UserError(
                f'--{name}={flags[name]}: read for decoders alone, and this is {family}; '
                'leave it out'
            )


def _count_told(counted: Counted) -> dict[str, Any]:
    return {
        'params': counted.params,
        'tokens': counted.tokens,
        'tokens_per_param': counted.tokens / counted.params,
        'family': counted.family,
        'flops_rule': counted.rule,
        'rules': {
            name: {'flops': flops, 'rule': rule} for name, (flops, rule) in counted.rules.items()
        },
        'rules_shape': None if counted.shape is None else shape_told(counted.shape),
    }


def _devices_told(flops: float, flags: Flags) -> dict[str, Any]:
    """The compute in FLOP, PF-days, and days of devices."""
    mfu, count = flags['mfu'], flags['devices']
    device = find_accelerator(flags['device'] or DEFAULT_DEVICE)
    return {
        'flops': flops,
        'pf_days': flops / PF_DAY,
        'device': device.name,
        'device_peak': device.peak,
        'device_dtype': device.dtype,
        'mfu': mfu,
        'device_days': device.days(flops, mfu),
        'devices': count,
        'days': device.days(flops, mfu) / count,
        'device_days_by_kind': {name: accelerator(name).days(flops, mfu) for name in SOLD_AS},
        'pf_day_in_device_days': {
            name: _pf_day(accelerator(name), mfu) for name in ('v100', 'a100')
        },
    }


def _pf_day(device: Accelerator, mfu: float) -> dict[str, float]:
    return {'at_peak': device.days(PF_DAY, 1.0), 'at_mfu': device.days(PF_DAY, mfu)}
