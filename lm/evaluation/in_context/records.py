"""The questions of a task, made of records: of files, or of a TFDS dataset."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lm.config import DataConfig
from lm.data.sources import PARTS, Part, Reading, Source, open_source
from lm.errors import UserError, naming
from lm.evaluation.in_context.task import Task
from lm.evaluation.in_context.template import field


class Question(NamedTuple):
    """A record as the task has it.

    Attributes:
      place: where the record stands.
      prompt: the question, up to where the answer comes.
      choices: the answers to choose from; empty: the answer is to be written.
      gold: the number of the right choice; None where there are none.
      answers: those that are right.
    """

    place: str
    prompt: str
    choices: tuple[str, ...]
    gold: int | None
    answers: tuple[str, ...]

    def solved(self, delimiter: str) -> str:
        """The question with its answer."""
        return self.prompt + delimiter + self.answers[0]


class Records(NamedTuple):
    """What records come to.

    Attributes:
      asked: the questions, in order; of a dataset with a validation split, those of that.
      shown: those that examples are drawn from: of such a dataset the training split's.
    """

    asked: list[Question]
    shown: list[Question]


def read_records(task: Task, path: str, flag: str, encoding: str = 'utf-8') -> Records:
    """The questions of files as `lm.data.record_files` reads them, or of `tfds:NAME`.

    Args:
      task: says what is a question.
      path: of a file, a folder or a glob, or `tfds:NAME`.
      flag: that names it, for errors.
      encoding: of the files.

    Raises:
      UserError: it cannot be read or is empty, is of another encoding or no records, or a record
        lacks a field or holds there what the task cannot use.
    """
    with naming({'data.source': f'--{flag}', 'data.encoding': '--task_encoding'}):
        source = open_source(DataConfig(source=path, encoding=encoding), examples=True)
        parts: tuple[Part, ...] = PARTS if source.has_validation else PARTS[:1]
        questions = [_questions(task, source, part) for part in parts]
    if not all(questions):
        raise UserError(f'--{flag}={path}: has no record')
    return Records(asked=questions[-1], shown=questions[0])


def _questions(task: Task, source: Source, part: Part) -> list[Question]:
    documents = source.documents(Reading(), part)
    return [_question(task, json.loads(d.text), f'data.source={d.name}') for d in documents]


def _question(task: Task, record: Mapping[str, Any], place: str) -> Question:
    prompt, choices, gold = task.prompt.filled(record, place), _choices(task, record, place), None
    if task.answers is not None:
        answers = _texts(record, task.answers, place, least=1)
    else:
        gold = _gold(task, record, place, len(choices))
        answers = (choices[gold],)
    return Question(place.partition('=')[2], prompt, choices, gold, answers)


def _gold(task: Task, record: Mapping[str, Any], place: str, choices: int) -> int:
    gold = field(record, str(task.gold), place)
    words = f'{place}: {task.gold}={gold!r}: must be'
    if task.labels:
        if gold not in task.labels:
            raise UserError(f"{words} one of the task's labels {', '.join(task.labels)}")
        gold = task.labels.index(gold)
    elif isinstance(gold, str) and gold.isdecimal():  # a table of text has no numbers
        gold = int(gold)
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < choices:
        raise UserError(f'{words} the number of the right one of {choices} choices, from 0')
    return gold


def _choices(task: Task, record: Mapping[str, Any], place: str) -> tuple[str, ...]:
    if task.choices is None:
        return ()
    if isinstance(task.choices, str):
        return _texts(record, task.choices, place, least=2)
    filled = [choice.filled(record, place) for choice in task.choices]
    return _checked(filled, 'choices', place, least=2)


def _texts(record: Mapping[str, Any], name: str, place: str, least: int) -> tuple[str, ...]:
    value = field(record, name, place)
    return _checked([value] if isinstance(value, str) else value, name, place, least)


def _checked(texts: Any, name: str, place: str, least: int) -> tuple[str, ...]:
    whole = isinstance(texts, Sequence) and all(isinstance(text, str) for text in texts)
    if not whole or len(texts) < least or not all(text.strip() for text in texts):
        shown = repr(texts)[:80]
        raise UserError(
            f'{place}: {name}={shown}: must be at least {least} texts, none of them empty'
        )
    return tuple(texts)
