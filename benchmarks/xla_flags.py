"""What flags of XLA's do to a step of `lm train`: each set of them in turn with none.

Command: python -m benchmarks.xla_flags --config=NAME [--config.FIELD=VALUE ...]
    --sets='--xla_a=1,--xla_b=2 --xla_c=3' [--rounds=3] [--steps=10]
Hardware: whatever devices are there.

`--sets` has one or more flags each. Every measurement is a process of its own, of
`benchmarks.train_step`, which adds the flags to those of $XLA_FLAGS; a round measures each set
once. Tokens a second are the median of the rounds. What pays stands in `docs/XLA_FLAGS.md`.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from lm.config import require
from lm.errors import UserError
from lm.flags import Flags

from ._command import print_table, run_command

ROOT = Path(__file__).parent.parent
NONE = ''


def main() -> int:
    """The command; returns its exit status."""
    return run_command('xla_flags', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define_config('llama_tiny')
    flags.define('sets', tuple[str, ...], (), 'sets of flags, those of a set between spaces')
    flags.define('rounds', int, 3, 'times that each set is measured')
    flags.define('steps', int, 10, 'steps that are timed together')


def _run(flags: Flags) -> dict[str, Any]:
    for name in ('rounds', 'steps'):
        require(flags[name] >= 1, f'--{name}={flags[name]}: must be at least 1')
    require(len(flags['sets']) > 0, '--sets: give one or more flags, such as --sets=--xla_a=1')
    config = [word for word in sys.argv[1:] if word.startswith(('--config', '--noconfig'))]
    sets = [NONE, *flags['sets']]
    measured: dict[str, list[dict[str, Any]]] = {one: [] for one in sets}
    for _ in range(flags['rounds']):
        for one in sets:
            measured[one].append(_step(one, [*config, f'--steps={flags["steps"]}']))
    speed = {
        one: statistics.median(found['tokens_per_second'] for found in many)
        for one, many in measured.items()
    }
    rows = {
        one: {
            'tokens_per_second': speed[one],
            'ratio': speed[one] / speed[NONE],
            'spread': [found['tokens_per_second'] / speed[one] for found in many],
            'compile_seconds': statistics.median(found['compile_seconds'] for found in many),
            'peak_bytes': many[-1].get('peak_bytes'),
        }
        for one, many in measured.items()
    }
    _print(rows)
    return {'config': flags['config'], 'device': measured[NONE][0]['device'], 'sets': rows}


def _step(xla_flags: str, words: list[str]) -> dict[str, Any]:
    """What `benchmarks.train_step` tells under these flags.

    Raises:
      UserError: it ended without telling, as XLA does of a flag that it does not know.
    """
    given = f'{os.environ.get("XLA_FLAGS", "")} {xla_flags}'.strip()
    ran = subprocess.run(
        [sys.executable, '-m', 'benchmarks.train_step', '--json', '--repeats=1', *words],
        cwd=ROOT, env={**os.environ, 'XLA_FLAGS': given}, capture_output=True, text=True,
    )  # fmt: skip
    if ran.returncode:
        last = [line for line in ran.stderr.splitlines() if line.strip()][-1:]
        raise UserError(f'--sets={xla_flags}: {" ".join(last) or ran.returncode}')
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _print(rows: dict[str, dict[str, Any]]) -> None:
    print_table(
        ('flags', 'tokens/s', 'ratio', 'spread', 'compile s'),
        [
            (
                one or 'none',
                f'{row["tokens_per_second"]:,.0f}',
                f'{row["ratio"]:.3f}',
                f'{min(row["spread"]):.3f} to {max(row["spread"]):.3f}',
                f'{row["compile_seconds"]:.1f}',
            )
            for one, row in rows.items()
        ],
    )


if __name__ == '__main__':
    sys.exit(main())
