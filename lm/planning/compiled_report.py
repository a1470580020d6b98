"""A compiled step beside its plan: one strategy, as numbers for `json.dump` and as text."""

from typing import Any

from lm.planning.advice import gigabytes
from lm.planning.compiled import CompiledStep, TooLarge

Found = CompiledStep | TooLarge | None
"""None: not compiled, for by the plan it is far from fitting."""


def as_json(found: Found, planned: float, memory: float | None, verdict: str | None) -> dict:
    """One strategy.

    Args:
      found: what the compiler says.
      planned: bytes on a device by the closed forms.
      memory: bytes that a device has, and where the compiler counts it what lies with its host;
        None where it is not named.
      verdict: whether it fits, by the closed forms.
    """
    about: dict[str, Any] = {
        'compiled': found is not None,
        'hbm_bytes_per_chip': None,
        'collectives': {},
        'planned_bytes_per_chip': round(planned),
        'fits': False,
        'advice': verdict,
    }
    if isinstance(found, CompiledStep):
        about |= {
            'hbm_bytes_per_chip': found.peak,
            'argument_bytes': found.arguments,
            'padding_bytes': found.arguments - found.unpadded,
            'output_bytes': found.outputs,
            'aliased_bytes': found.aliased,
            'temp_bytes': found.temp,
            'host_bytes_per_chip': found.host,
            'compile_seconds': round(found.seconds, 2),
            'collectives': found.by_kind(),
            'fits': None if memory is None else found.peak <= memory,
        }
    if isinstance(found, TooLarge):
        about |= {
            'compile_seconds': round(found.seconds, 2),
            'hbm_bytes_per_chip': None if found.needed is None else round(found.needed),
        }
    return about


def as_text(strategy: str, found: Found, planned: float, memory: float | None) -> str:
    """One strategy, in a few lines."""
    if found is None:
        return f'{strategy}: not compiled'
    if isinstance(found, TooLarge):
        needed = 'more than the device has'
        if found.needed is not None and found.available is not None:
            needed = f'{gigabytes(found.needed)} of {gigabytes(found.available)}'
        return (
            f'{strategy}: the compiler refuses it after {found.seconds:.0f} s: it needs {needed} '
            f'(planned {gigabytes(planned)})'
        )
    room = '' if memory is None else f' of {gigabytes(memory)}'
    lines = [
        f'{strategy}: {gigabytes(found.peak)}{room} a device (planned {gigabytes(planned)}); '
        f'compiled in {found.seconds:.1f} s',
        f'  arguments {gigabytes(found.arguments)} (padding '
        f'{gigabytes(found.arguments - found.unpadded)}), outputs {gigabytes(found.outputs)}, '
        f'aliased {gigabytes(found.aliased)}, temporaries {gigabytes(found.temp)}',
    ]
    if found.host:
        lines.append(f'  in host memory {gigabytes(found.host)}')
    for kind, sums in found.by_kind().items():
        lines.append(
            f'  {kind:<20}{sums["count"]:>6} in the program{sums["times"]:>8} a step'
            f'{gigabytes(sums["bytes"]):>12}'
        )
    return '\n'.join(lines)
