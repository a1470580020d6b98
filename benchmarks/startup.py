"""How long one waits: `import lm`, `lm help`, and the first step of the quickstart, as processes.

Command: python -m benchmarks.startup [--repeats=5] [--first_steps=1]
Hardware: any; 2 CPU cores take two minutes.

Each is a process of its own, timed from its start by another; Python alone beside it. The first
step is that of `lm train --config=quickstart`, read off `metrics.jsonl`: with nothing there (the
text is prepared, the step compiled), with the text prepared, and with the compiled programs that a
run keeps there too.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lm.config import require
from lm.errors import UserError
from lm.flags import Flags

from ._command import print_table, run_command

ROOT = Path(__file__).parent.parent
COMMANDS = {
    'python alone': ['-c', 'pass'],
    'import lm': ['-c', 'import lm'],
    'lm help': ['-m', 'launch', 'help'],
    'lm train --help': ['-m', 'launch', 'train', '--help'],
}
FIRST_STEPS = (
    'first step, nothing there',
    'first step, text prepared',
    'first step, text prepared and step compiled',
)
PATIENCE = 600
"""Seconds that a first step may take."""


def main() -> int:
    """The command; returns its exit status."""
    return run_command('startup', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('repeats', int, 5, 'of each short command; the median is told')
    flags.define('first_steps', int, 1, 'times that each kind of first step is timed')


def _run(flags: Flags) -> dict[str, Any]:
    for name in ('repeats', 'first_steps'):
        require(flags[name] >= 1, f'--{name}={flags[name]}: must be at least 1')
    seconds = {
        name: [_whole(words) for _ in range(flags['repeats'])] for name, words in COMMANDS.items()
    }
    seconds |= {name: [] for name in FIRST_STEPS}
    for _ in range(flags['first_steps']):
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder, 'cache')
            for i, name in enumerate(FIRST_STEPS):
                if i == 1:
                    shutil.rmtree(cache / 'compiled')
                seconds[name].append(_first_step(Path(folder, f'run{i}'), cache))
    rows = [
        (name, f'{statistics.median(times):.2f}', f'{min(times):.2f} to {max(times):.2f}')
        for name, times in seconds.items()
    ]
    print_table(("seconds from the process's start", 'median', 'spread'), rows)
    return {'seconds': {name: statistics.median(times) for name, times in seconds.items()}}


def _whole(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _first_step(workdir: Path, cache: Path) -> float:
    """Seconds until the run's first row of metrics is there; it is then asked to end.

    Raises:
      UserError: the run ended before.
    """
    # A place that JAX was told itself would be kept from one run to the next.
    told = {name: value for name, value in os.environ.items() if not name.startswith('JAX_')}
    words = [
        '-m', 'launch', 'train', '--config=quickstart', f'--workdir={workdir}',
        '--config.train.log_every_steps=1', '--config.eval.sample_tokens=0',
    ]  # fmt: skip
    metrics = workdir / 'metrics.jsonl'
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env={**told, 'LM_CACHE': str(cache)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (metrics.exists() and metrics.stat().st_size):
        if process.poll() is not None or time.perf_counter() - begin > PATIENCE:
            process.kill()
            raise UserError(f'no first step: {process.communicate()[1].strip().splitlines()[-1:]}')
        time.sleep(0.005)
    seconds = time.perf_counter() - begin
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return seconds


if __name__ == '__main__':
    sys.exit(main())
