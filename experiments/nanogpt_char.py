"""Does nanoGPT's character recipe reach its published loss on Tiny Shakespeare's last tenth?

Command: python -m experiments.nanogpt_char --source=FILE --workdir=DIR [--preset=gpu]
Hardware: 2 CPU cores; preset gpu: one GPU.
Time: 75 s a seed on an idle machine.
Expected: `reached` is true: over three seeds the mean held-out loss is at most 1.88 nats a
    character, with preset gpu 1.47.

Each seed is a run in a folder of DIR; the same command goes on where it was stopped. The loss is of
the whole held-out text at the last step, in consecutive windows, each without what came before it.
"""

import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lm
from lm.config import Config, require
from lm.flags import Flags

from ._command import own_folder, run_command

PUBLISHED = {'': 1.88, 'gpu': 1.47}
"""Nats a character that nanoGPT's README gives, by preset."""


def configs(source: str, preset: str = '', seeds: int = 3) -> dict[str, Config]:
    """The runs by the names of their folders, alike but for the seed.

    Raises:
      UserError: an unknown preset, or no seed.
    """
    require(seeds >= 1, f'seeds={seeds}: must be at least 1')
    name = f'nanogpt_char:{preset}' if preset else 'nanogpt_char'
    return {
        f'seed{seed}': lm.load_config(name, **{'data.source': source, 'train.seed': seed})
        for seed in range(seeds)
    }


def analyze(summaries: Mapping[str, Mapping[str, Any]], most: float) -> dict[str, Any]:
    """The mean of the runs' held-out losses, its 95 % interval, and whether it is at most `most`.

    The interval is Student's, for the mean over seeds; one seed has none.
    """
    from scipy import stats

    # The text is ASCII: a byte is a character.
    losses = {name: s['bits_per_byte'] * math.log(2) for name, s in summaries.items()}
    values, count = list(losses.values()), len(losses)
    mean, interval = statistics.mean(values), None
    if count > 1:
        reach = float(stats.t.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
        interval = [mean - reach, mean + reach]
    return {
        'nats_per_character': losses,
        'mean': mean,
        'interval_95': interval,
        'published': most,
        'reached': mean <= most,
    }


def run(runs: Mapping[str, Config], folder: Path) -> dict[str, dict[str, Any]]:
    """Trains each run in its folder, or goes on with it; the summaries."""
    return {name: lm.train(config, folder / name) for name, config in runs.items()}


def main() -> int:
    """Prints the analysis as one JSON object."""
    return run_command('nanogpt_char', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('source', str, '', 'the text, one file')
    flags.define('workdir', str, '', "the folder of the runs' folders")
    flags.define('preset', str, '', 'gpu, or empty for the recipe for a CPU')
    flags.define('seeds', int, 3, 'runs, with the seeds 0, 1, ...')


def _run(flags: Flags) -> dict[str, Any]:
    runs = configs(flags.required('source'), flags['preset'], flags['seeds'])
    summaries = run(runs, own_folder(flags))
    return analyze(summaries, PUBLISHED[flags['preset']])


if __name__ == '__main__':
    sys.exit(main())
