"""Prints what a run came to, from its summary.json, as a short table.

The file itself holds more: the rules behind the figures, and the account of the data.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from lm.errors import UserError
from lm.flags import Flags
from lm.training.workdir import Workdir

ROWS: dict[str, Callable[[Any], str]] = {
    'params': '{:,}'.format,
    'tokens': '{:,}'.format,
    'flops': '{:.3g}'.format,
    'mfu': '{:.1%}'.format,
    'final_loss': '{:.3f} nats per target token'.format,
    'eval_loss': '{:.3f} nats per target token'.format,
    'bits_per_byte': '{:.3f}'.format,
    'compile_seconds': '{:.1f}'.format,
    'device': str,
    'attention_kernel': str,
}
"""The keys of summary.json that are shown, in this order, and how."""


def define_flags(flags: Flags) -> None:
    """Whose summary."""
    flags.define('workdir', str, '', 'the folder of the run')


def main(flags: Flags) -> None:
    """Prints the table."""
    folder = Workdir(flags.required('workdir'))
    path = folder.summary_file
    if not path.is_file():
        raise UserError(
            f'{folder.name}/{path.name}: no such file; `lm train` writes it at the end of a run'
        )
    print(table(json.loads(path.read_text(encoding='utf-8'))))


def table(summary: Mapping[str, Any]) -> str:
    """One line a figure; what is null (not known, or not defined for the run) is left out."""
    known = {key: show(summary[key]) for key, show in ROWS.items() if summary.get(key) is not None}
    return '\n'.join(f'  {key:<18} {text}' for key, text in known.items())
