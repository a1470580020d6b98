"""What `lm budget` prints without `--json`."""

import textwrap
from typing import Any, TypeAlias

Told: TypeAlias = dict[str, Any]

WIDTH = 120
"""Columns of the terminal that lines are broken for, those of tables aside."""


def as_text(told: Told) -> str:
    """Both halves of a budget in lines."""
    blocks = [_counts(told)] if 'rules' in told else []
    blocks.append(_devices(told))
    if 'optimal' in told:
        blocks += [_optimal(told), _shape('the best size as ', told['shape']), _prices(told)]
        blocks += _asked_for(told)
    return '\n\n'.join('\n'.join(map(_broken, block)) for block in blocks)


def known_text(models: list[Told]) -> str:
    """Actual against optimal tokens and parameters."""
    laws = [best['method'] for best in models[0]['optimal']]
    lines = [
        'Known models: best N and D of the same 6 N D, by each law',
        f'{"":<12}{"N":>9}{"D":>9}{"6 N D":>10}{"D/N":>7}{"20 N":>9}'
        + ''.join(f'{_short(law):>21}' for law in laws),
    ]
    for model in models:
        cells = ''.join(
            f'{_size(best["params"]):>11} {_size(best["tokens"]):>9}' for best in model['optimal']
        )
        lines.append(
            f'{model["name"]:<12}{_size(model["params"]):>9}{_size(model["tokens"]):>9}'
            f'{model["flops"]:>10.3g}{model["tokens_per_param"]:>7.3g}'
            f'{_size(model["tokens_by_rule_of_20"]):>9}{cells}'
        )
    return '\n'.join([*lines, *(f'{model["name"]}: {model["source"]}' for model in models)])


def _counts(told: Told) -> list[str]:
    lines = [
        f'N {told["params"]:.6g}  D {told["tokens"]:.6g}  {told["tokens_per_param"]:.4g} tokens a '
        f'parameter ({told["family"]})',
        f'{told["flops"]:.6g} FLOPs ({told["flops_rule"]})',
    ]
    if told['rules_shape'] is not None:
        lines += _shape('other rules of ', told['rules_shape'])
    return lines + [
        f'  {name:<20}{rule["flops"]:>12.6g}  {rule["rule"]}'
        for name, rule in told['rules'].items()
    ]


def _devices(told: Told) -> list[str]:
    peak, dtype = told['device_peak'] / 1e12, told['device_dtype']
    lines = [
        f'{told["flops"]:.6g} FLOPs = {told["pf_days"]:.6g} PF-days = {told["device_days"]:.6g} '
        f'{told["device"]}-days at {told["mfu"]:.0%} MFU of {peak:g} TFLOP/s ({dtype}, dense)',
        f'  {told["days"]:.6g} days on {told["devices"]}',
        '  days of one: '
        + ', '.join(f'{name} {days:.4g}' for name, days in told['device_days_by_kind'].items()),
    ]
    for name, days in told['pf_day_in_device_days'].items():
        lines.append(
            f'  one PF-day: {days["at_peak"]:.4g} {name}-days at peak, {days["at_mfu"]:.4g} at '
            f'{told["mfu"]:.0%} MFU'
        )
    return lines


def _optimal(told: Told) -> list[str]:
    lines = [f'Best spent, at {told["optimal"][0]["flops"]:.6g} FLOPs']
    lines.append(f'  {"":<24}{"N*":>9}{"D*":>9}{"D*/N*":>8}{"loss":>8}  intervals of N* and D*')
    for best in told['optimal']:
        loss = '' if best['loss'] is None else f'{best["loss"]:.4f}'
        lines.append(
            f'  {best["method"]:<24}{_size(best["params"]):>9}{_size(best["tokens"]):>9}'
            f'{best["tokens_per_param"]:>8.3g}{loss:>8}  {_interval(best)}'
            + ('  FAR' if best['far'] else '')
        )
    rule = told['rule_of_20']
    lines.append(
        f'  {"20 tokens a parameter":<24}{_size(rule["params"]):>9}{_size(rule["tokens"]):>9}'
        f'{20:>8}'
    )
    if any(best['far'] for best in told['optimal']):
        lines.append("  FAR: more than ten times beyond the computes of the law's own data")
    lines += [f'  {method}: none, {reason}' for method, reason in told['unavailable'].items()]
    lines += [
        f'  DISAGREE beyond their errors on {one["quantity"]}: '
        + ', '.join(
            f'{method} {value:.4g}'
            for method, value in zip(one['methods'], one['values'], strict=True)
        )
        for one in told['disagreement']
        if one['beyond_errors']
    ]
    for best in told['optimal']:
        about = f'; interval: {best["interval_source"]}' if best['intervals'] else ''
        lines.append(f'  {best["method"]}: {best["source"]}{about}')
    return lines


def _interval(best: Told) -> str:
    if best['intervals'] is None:
        return 'no interval'
    sides = (f'{_size(low)}-{_size(high)}' for low, high in _of_size(best['intervals']))
    alone = ', of a alone' if best['interval_of'] == 'exponent' else ''
    return f'{", ".join(sides)} ({best["level"]:.0%}{alone})'


def _of_size(intervals: Told) -> list[tuple[float, float]]:
    return [intervals[name] for name in ('params', 'tokens')]


def _shape(before: str, shape: Told) -> list[str]:
    if 'unavailable' in shape:
        return [f'{before}a shape: {shape["unavailable"]}']
    return [
        f'{before}{shape["num_layers"]} layers of width {shape["d_model"]} and {shape["d_ff"]}, '
        f'{shape["num_heads"]} '
        f'heads of {shape["head_dim"]}, vocabulary {shape["vocab_size"]}: {shape["params"]:,} '
        f'parameters ({shape["off"]:+.1%}), {shape["params_non_embedding"]:,} without embeddings',
        f'  ({shape["rule"]})',
    ]


def _prices(told: Told) -> list[str]:
    law = told['law']
    constants = '  '.join(f'{name} {law[name]:.5g}' for name in ('E', 'A', 'B', 'alpha', 'beta'))
    lines = [f'Another size, by the law of {law["name"]} ({constants})']
    rows = {f'N* x {price["factor"]:g}': price for price in told['off_optimal']}
    if 'choice' in told:
        rows = {f'this, N* x {told["choice"]["factor"]:.3g}': told['choice']} | rows
    for name, price in rows.items():
        catch_up = 'never reaches the best loss'
        if price['extra_compute'] is not None:
            catch_up = (
                f'reaches the best loss at {_size(price["catch_up_tokens"])} tokens, '
                f'{price["extra_compute"]:+.1%} compute'
            )
        lines.append(
            f'  {name:<18}N {_size(price["params"]):>7}  D {_size(price["tokens"]):>7}  loss '
            f'{price["loss"]:.4f} ({price["extra_loss"]:+.4f}); {catch_up}'
        )
    return lines


def _asked_for(told: Told) -> list[list[str]]:
    blocks = []
    if found := told['inference_optimal']:
        blocks.append(
            [
                'With use counted (Sardana et al. 2023: least 6 N D + 2 N D_inference at the loss '
                'of N*)',
                f'  N {_size(found["params"])}  D {_size(found["tokens"])}  '
                f'{found["tokens"] / found["params"]:.3g} tokens a parameter, loss '
                f'{found["loss"]:.4f}',
                f'  {found["train_flops"]:.4g} FLOPs of training + {found["inference_flops"]:.4g} '
                f'of use, {found["saved"]:.1%} less than with N*',
            ]
        )
    if found := told['data_limited']:
        blocks.append(
            [
                'With text repeated (Muennighoff et al. 2023, R*_D 15.39 and R*_N 5.31, on the law '
                'above)',
                f'  N {_size(found["params"])}  D {_size(found["tokens"])}, {found["epochs"]:.3g} '
                f'epochs, worth {_size(found["effective_params"])} and '
                f'{_size(found["effective_tokens"])}; loss {found["loss"]:.4f} '
                f'({found["lost"]:+.4f})',
            ]
        )
    return blocks


def _broken(line: str) -> str:
    """The line as it is, or what is too long broken between words."""
    if len(line) <= WIDTH:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    first, *rest = textwrap.wrap(line.strip(), WIDTH - len(indent) - 2, break_on_hyphens=False)
    return '\n'.join([indent + first, *(f'{indent}  {part}' for part in rest)])


def _size(value: float) -> str:
    for unit, name in ((1e12, 'T'), (1e9, 'B'), (1e6, 'M')):
        if unit <= value < 1000 * unit:
            return f'{value / unit:.3g}{name}'
    return f'{value:.3g}'


def _short(law: str) -> str:
    return law.replace('hoffmann2022_', '').replace('_', ' ')
