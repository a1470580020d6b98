"""Compares runs on one HTML page: loss, speed, what each is, and where their configs differ.

WORKDIR are folders of runs, ended or under way. The page needs no network and holds its pictures:
loss against tokens, FLOPs and time, held-out loss, learning rate, gradient norm, throughput, a
table of the runs and one of the config fields that differ; with --prompt also a sample of each
run's newest checkpoint (this loads the models; all else needs no jax).
"""

from pathlib import Path

from lm.errors import UserError
from lm.flags import Flags

from ._files import require_ending, require_writable


def define_flags(flags: Flags) -> None:
    """Which runs, and where the page goes."""
    flags.define_words('WORKDIR')
    flags.define('out', str, 'report.html', 'FILE.html, the page; one that is there is replaced')
    flags.define('prompt', str, '', 'text that each model continues, or fills; empty: no samples')
    flags.define('max_new_tokens', int, 64, 'tokens of a sample at most')


def main(flags: Flags) -> None:
    """Writes the page, and prints its name."""
    out = flags.required('out')
    require_ending('out', out, ('.html', '.htm'))
    require_writable('out', out)
    if flags['max_new_tokens'] < 1:
        raise UserError(f'--max_new_tokens={flags["max_new_tokens"]}: must be at least 1')
    if not flags.words:
        raise UserError('WORKDIR: missing; give the folders of one or more runs')
    from lm.report.recorded import read_runs

    runs = read_runs(flags.words)
    samples = []
    if flags['prompt']:
        from lm.report.samples import samples_of

        samples = samples_of(runs, flags['prompt'], flags['max_new_tokens'])
    from lm.report.page import page

    text = page(runs, flags['prompt'], samples)
    try:
        Path(out).write_text(text, encoding='utf-8')
    except OSError as error:
        raise UserError(f'--out={out}: cannot be written ({error.strerror})') from error
    print(out)
