"""Scores a text, a task or examples under a trained model, as one JSON object.

A text: nats per token and bits per byte. A task: K solved examples, then a question, of each record
of a file; accuracies with 95 % intervals, and those of rules that read no question. Examples, of a
model that was fine-tuned on such: its loss on them, and the measures of what it learnt.

Beside the score stands how much of the text, or of the questions with their answers, was in the
model's training text, by 13-grams as GPT-3 checks it: that text is read once more, so its files
must still be there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm.config import Config
from lm.errors import UserError, naming
from lm.fields import field_types, type_words
from lm.flags import Flags, parsed

from ._files import read_text, require_writable
from ._model import define_model, load_model

if TYPE_CHECKING:
    from lm.data.sources import Source

OF_TASKS = (
    'task_data', 'task_encoding', 'shots_data', 'num_shots', 'shots_that_fit', 'questions_that_fit',
    'limit', 'seed', 'by_generation',
)  # fmt: skip
"""Flags that a text and examples have no use for."""
OF_EXAMPLES = ('measures', 'num_beams', 'predictions', 'encoding', 'options', 'seq_len')
"""Flags of examples alone."""


def define_flags(flags: Flags) -> None:
    """The model, and the text, the task or the examples."""
    define_model(flags)
    flags.define('text', str, '', 'a UTF-8 file, scored as one text')
    flags.define('task', str, '', 'a known task (copa, ...), or a YAML or JSON file that says one')
    flags.define(
        'task_data', str, '', "the task's records: .jsonl, .json, .csv, .tsv, .parquet or tfds:NAME"
    )
    flags.define('task_encoding', str, 'utf-8', 'of the files of records')
    flags.define('num_shots', int, 0, 'solved examples before each question')
    flags.define(
        'shots_data', str, '', 'records that examples are drawn from; empty: the other questions'
    )
    flags.define('shots_that_fit', bool, False, 'take fewer examples where not all of them fit')
    flags.define(
        'questions_that_fit', bool, False, 'leave out, and count, questions that do not fit'
    )
    flags.define('limit', int | None, None, 'ask only so many questions, the first; none: all')
    flags.define('seed', int, 0, 'decides which examples are drawn')
    flags.define('by_generation', bool, False, 'have answers written, also where there are choices')
    flags.define(
        'examples', str, '', 'labelled text as data.source takes it, of a fine-tuned model'
    )
    flags.define('encoding', str, '', "of the examples' files; empty: that of the run's own")
    flags.define(
        'measures', tuple[str, ...], (), "of the examples: see eval.measures; unset: the task's"
    )
    flags.define(
        'options', tuple[str, ...], (),
        "objective.options of the examples where not the run's: truncate=True,text=sentence",
    )  # fmt: skip
    flags.define('seq_len', int | None, None, "places of a row; unset: the run's train.seq_len")
    flags.define('num_beams', int | None, None, 'texts are searched for; none: token by token')
    flags.define('predictions', str, '', 'a JSONL file to write with the answer to each example')
    flags.define('batch_size', int, 16, 'rows scored at once')
    flags.define('json', bool, True, 'print one JSON object; false: a line for people')
    flags.define(
        'overlap', bool, True, 'compare with the training text; false: that is not read again'
    )
    flags.define(
        'training_text', str, '',
        "what it is compared with instead of the run's own text, as data.source takes one",
    )  # fmt: skip


def main(flags: Flags) -> None:
    """Prints the score."""
    if flags['batch_size'] < 1:
        raise UserError(f'--batch_size={flags["batch_size"]}: must be at least 1')
    if flags['training_text'] and not flags['overlap']:
        raise UserError(f'--training_text={flags["training_text"]}: not with --nooverlap')
    asked = [name for name in KINDS if flags[name]]
    if len(asked) > 1:
        given = flags[asked[1]]
        raise UserError(f'--{asked[1]}={given}: give it or --{asked[0]}, not both')
    if not asked:
        raise UserError('--text: missing; give a UTF-8 file, or --task or --examples')
    score, texts, training = KINDS[asked[0]](flags)
    if flags['overlap']:
        score |= _overlap(flags, training, texts)
    if flags['json']:
        print(json.dumps(score))
    else:
        print(', '.join(f'{name} {value}' for name, value in score.items()))


Scored = tuple[dict[str, Any], Sequence[str], 'Source | None']
"""The score, the texts that may have been trained on, and what `--training_text` names."""


def _refuse(flags: Flags, names: Sequence[str], kind: str) -> None:
    """Refuses flags of another kind of score than the one that is asked for."""
    for name in names:
        if flags.given(name):
            raise UserError(f'--{name}={flags[name]}: is of --{kind}; give that, or leave it out')


def _examples_score(flags: Flags) -> Scored:
    _refuse(flags, OF_TASKS, 'task')
    from lm.evaluation.example_file import score_examples

    if flags['predictions']:
        require_writable('predictions', flags['predictions'])
    training = _training_text(flags)
    model = load_model(flags)
    told = {f'{_OPTIONS}.{name}': f'--options={name}' for name in _options(model.config)}
    with naming({'train.seq_len': '--seq_len', **told}):
        score, answers, texts = score_examples(
            model,
            flags['examples'],
            batch_size=flags['batch_size'],
            measures=flags['measures'],
            num_beams=flags['num_beams'],
            encoding=flags['encoding'] or None,
            changes=_changes(flags, model.config),
        )
    if flags['predictions']:
        lines = ''.join(json.dumps(answer._asdict()) + '\n' for answer in answers)
        Path(flags['predictions']).write_text(lines, encoding='utf-8')
    return score, texts, training


def _options(config: Config) -> list[str]:
    """Of the objective those that may be others: not the labels, which the head has."""
    paths = (path.rpartition('.') for path in field_types(config))
    return [name for section, _, name in paths if section == _OPTIONS and name != 'labels']


def _changes(flags: Flags, config: Config) -> dict[str, Any]:
    """What of the run's config is another for these examples."""
    types = field_types(config)
    changes: dict[str, Any] = {}
    known = _options(config)
    for given in flags['options']:
        name, said, value = given.partition('=')
        if not said or name not in known:
            names = f'the name one of {", ".join(known)}' if known else 'of which it has none'
            raise UserError(
                f'--options={given}: give NAME=VALUE of objective.name={config.objective.name}, '
                f'{names}'
            )
        path = f'{_OPTIONS}.{name}'
        annotation = types[path][0]
        try:
            changes[path] = parsed(value, annotation)
        except ValueError:
            raise UserError(f'--options={given}: must be {type_words(annotation)}') from None
    if flags['seq_len'] is not None:
        changes['train.seq_len'] = flags['seq_len']
    return changes


def _text_score(flags: Flags) -> Scored:
    _refuse(flags, OF_TASKS, 'task')
    _refuse(flags, OF_EXAMPLES, 'examples')
    text = read_text('text', flags['text'])
    from lm.evaluation.text import score_text

    training = _training_text(flags)
    return score_text(load_model(flags), text, flags['batch_size']), [text], training


def _task_score(flags: Flags) -> Scored:
    _refuse(flags, OF_EXAMPLES, 'examples')
    from lm.evaluation.in_context.evaluate import score_task
    from lm.evaluation.in_context.records import Records, read_records
    from lm.evaluation.in_context.task import read_task

    task = read_task(flags['task'])

    def read(flag: str) -> Records:
        return read_records(task, flags.required(flag), flag, flags['task_encoding'])

    records = read('task_data')
    shown = read('shots_data').shown if flags['shots_data'] else records.shown
    training = _training_text(flags)
    score = score_task(
        load_model(flags),
        task,
        records.asked,
        num_shots=flags['num_shots'],
        pool=shown,
        limit=flags['limit'],
        seed=flags['seed'],
        batch_size=flags['batch_size'],
        by_generation=flags['by_generation'],
        shots_that_fit=flags['shots_that_fit'],
        questions_that_fit=flags['questions_that_fit'],
    )
    questions = records.asked[: flags['limit']]
    return score, [question.solved(task.delimiter) for question in questions], training


_OPTIONS = 'objective.options'
KINDS = {'text': _text_score, 'task': _task_score, 'examples': _examples_score}


def _training_text(flags: Flags) -> 'Source | None':
    """Opened before the model is read, so that a mistake is told at once."""
    from lm.training.trained_text import open_training_text

    return open_training_text(flags['training_text']) if flags['training_text'] else None


def _overlap(flags: Flags, training: 'Source | None', texts: Sequence[str]) -> dict[str, Any]:
    """What the texts share with the training text, or why that is not known."""
    from lm.training.trained_text import FOREIGN, run_overlap, source_overlap, unknown_overlap

    if training is not None:
        return source_overlap(training, texts)
    return unknown_overlap(FOREIGN) if flags['hf'] else run_overlap(flags['workdir'], texts)
