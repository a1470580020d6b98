"""Shows rows of a training step as the model gets them, decoded.

Under each token stand its segment, its position, the target and the target's loss weight; the
segments' source documents are named, and in a mixture the row's source. The rows come out of the
pipeline that trains: of step K of a config, or of a run.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from lm.config import Config
from lm.errors import UserError
from lm.flags import Flags
from lm.training.workdir import Workdir

from ._files import require_writable


def define_flags(flags: Flags) -> None:
    """Which rows, of what, and how they are shown."""
    flags.define('workdir', str, '', 'the folder of a run: shows its rows')
    flags.define('step', int, 1, 'the step whose batch is shown; the first is 1')
    flags.define('rows', int, 2, 'rows of the batch, from its first')
    flags.define('format', Literal['text', 'html'], 'text', 'a table, or a page for a browser')
    flags.define('output', str, '', 'a file to write to; empty: stdout')
    workdir = flags.peek('workdir')
    flags.define_config(_recorded(Workdir(workdir)) if workdir else 'quickstart')


def main(flags: Flags) -> None:
    """Prints or writes the rows."""
    config = flags.config()
    # How many steps the budget of a run that has not begun allows, only its tokenizer tells.
    steps_known = flags['workdir'] or config.train.budget is None
    if flags['step'] < 1 or (steps_known and flags['step'] > config.train.steps):
        last = f' to train.steps={config.train.steps}' if steps_known else ''
        raise UserError(f'--step={flags["step"]}: must be from 1{last}')
    if flags['rows'] < 1:
        raise UserError(f'--rows={flags["rows"]}: must be at least 1')
    if flags['output']:
        require_writable('output', flags['output'])
    from lm.data.display import as_html, as_text
    from lm.training.shown_rows import rows_of_step

    shown = rows_of_step(config, flags['step'])[: flags['rows']]
    page = as_html(shown) if flags['format'] == 'html' else as_text(shown)
    if flags['output']:
        Path(flags['output']).write_text(page, encoding='utf-8')
    else:
        print(page, end='')


def _recorded(workdir: Workdir) -> Config:
    """The config of a run, with the very tokenizer that it trained with."""
    config = workdir.read_config()
    if config is None:
        raise UserError(f'--workdir={workdir.name}: holds no run (no config.json)')
    data = dataclasses.replace(config.data, tokenizer=str(workdir.tokenizer_file))
    return dataclasses.replace(config, data=data)
