"""Scores a text or a task under a trained model, as one JSON object.

A text: nats per token and bits per byte. A task: K solved examples, then a question, of each record
of a JSONL file; accuracies with 95 % intervals, and what they are without knowing anything.
"""

import json
from typing import Any

from lm.errors import UserError
from lm.flags import Flags

from ._files import read_text
from ._model import define_model, load_model

OF_TASKS = (
    'task_data', 'num_shots', 'shots_data', 'limit', 'seed', 'by_generation', 'shots_that_fit',
)  # fmt: skip
"""Flags that a text has no use for."""


def define_flags(flags: Flags) -> None:
    """The model, and the text or the task."""
    define_model(flags)
    flags.define('text', str, '', 'a UTF-8 file, scored as one text')
    flags.define('task', str, '', 'a known task (copa, ...), or a YAML or JSON file that says one')
    flags.define('task_data', str, '', "the task's records: a JSONL file")
    flags.define('num_shots', int, 0, 'solved examples before each question')
    flags.define('shots_data', str, '', 'records to draw examples from; empty: the other ones')
    flags.define('limit', int | None, None, 'ask only so many questions, the first; none: all')
    flags.define('seed', int, 0, 'decides which examples are drawn')
    flags.define('by_generation', bool, False, 'have answers written, also where there are choices')
    flags.define('shots_that_fit', bool, False, 'take fewer examples where not all of them fit')
    flags.define('batch_size', int, 16, 'rows scored at once')
    flags.define('json', bool, True, 'print one JSON object; false: a line for people')


def main(flags: Flags) -> None:
    """Prints the score."""
    if flags['batch_size'] < 1:
        raise UserError(f'--batch_size={flags["batch_size"]}: must be at least 1')
    if flags['text'] and flags['task']:
        raise UserError(f'--task={flags["task"]}: give it or --text, not both')
    if not flags['text'] and not flags['task']:
        raise UserError('--text: missing; give a UTF-8 file, or --task')
    score = _task_score(flags) if flags['task'] else _text_score(flags)
    if flags['json']:
        print(json.dumps(score))
    else:
        print(', '.join(f'{name} {value}' for name, value in score.items()))


def _text_score(flags: Flags) -> dict[str, Any]:
    for name in OF_TASKS:
        if flags.given(name):
            raise UserError(f'--{name}={flags[name]}: is of a task; give --task, or leave it out')
    text = read_text('text', flags['text'])
    from lm.evaluation.text import score_text

    return score_text(load_model(flags), text, flags['batch_size'])


def _task_score(flags: Flags) -> dict[str, Any]:
    from lm.evaluation.in_context.evaluate import score_task
    from lm.evaluation.in_context.records import read_questions
    from lm.evaluation.in_context.task import read_task

    task = read_task(flags['task'])
    questions = read_questions(task, flags.required('task_data'))
    pool = None
    if flags['shots_data']:
        pool = read_questions(task, flags['shots_data'], 'shots_data')
    return score_task(
        load_model(flags),
        task,
        questions,
        num_shots=flags['num_shots'],
        pool=pool,
        limit=flags['limit'],
        seed=flags['seed'],
        batch_size=flags['batch_size'],
        by_generation=flags['by_generation'],
        shots_that_fit=flags['shots_that_fit'],
    )
