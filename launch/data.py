"""Shows rows of a training step as the model gets them, decoded.

Under each token stand its segment, its position, the target and the target's loss weight; the
segments' source documents are named, and in a mixture the row's source. The rows come out of the
pipeline that trains: of step K of a config, or of a run.
"""

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lm.config import Config
from lm.errors import UserError
from lm.flags import Flags
from lm.training.workdir import Workdir

from ._files import require_writable

if TYPE_CHECKING:
    from lm.data.display import ShownRow


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

    shown = rows_of_step(config, flags['step'])[: flags['rows']]
    page = as_html(shown) if flags['format'] == 'html' else as_text(shown)
    if flags['output']:
        Path(flags['output']).write_text(page, encoding='utf-8')
    else:
        print(page, end='')


def rows_of_step(config: Config, step: int) -> 'list[ShownRow]':
    """The rows of the batch that step `step` (from 1) of a run of `config` trains on."""
    import numpy as np

    from lm.batch import Batch, Row
    from lm.data.display import show_row
    from lm.data.mixture import prepare_mixture
    from lm.data.pipeline import batches, row_number
    from lm.objectives._objective import build_objective
    from lm.training.evaluate import mixed_rows

    mixture = prepare_mixture(config.data, config.model.vocab_size)
    tokenizer, train = mixture.tokenizer, config.train
    objective = build_objective(config, tokenizer.vocabulary)
    rows = mixed_rows(objective, mixture, train.seed)
    first_row, again = (step - 1) * train.batch_size, config.data.overfit_batches
    numbers = first_row + np.arange(train.batch_size)
    sources = rows.sources_of(row_number(numbers, train.batch_size, again))
    size = tokenizer.vocabulary.size
    shown: list[ShownRow] = []

    def example(row: Row, generator: np.random.Generator) -> Batch:
        # An objective may leave segments out and number the others anew. The same row once more,
        # with its documents' numbers for tokens, tells where each segment came from.
        twin = copy.deepcopy(generator)
        made = objective.example(row, generator)
        traced = objective.example(row._replace(tokens=row.documents + size), twin)
        source = int(sources[len(shown)])
        documents = {
            int(segment): mixture.parts[source].train.name(int(token) - size)
            for segment, token in zip(traced.segment_ids, traced.tokens, strict=True)
            if token >= size
        }
        title = f'step {step}, row {len(shown) + 1} of {train.batch_size}'
        if len(mixture.names) > 1:
            title += f', from {mixture.names[source]}'
        shown.append(show_row(title, made, documents, tokenizer.pieces))
        return made

    next(
        batches(
            rows,
            example,
            batch_size=train.batch_size,
            start_row=first_row,
            seed=train.seed,
            overfit_batches=again,
            threads=0,
        )
    )
    return shown


def _recorded(workdir: Workdir) -> Config:
    """The config of a run, with the very tokenizer that it trained with."""
    config = workdir.read_config()
    if config is None:
        raise UserError(f'--workdir={workdir.name}: holds no run (no config.json)')
    data = dataclasses.replace(config.data, tokenizer=str(workdir.tokenizer_file))
    return dataclasses.replace(config, data=data)
