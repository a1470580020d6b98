"""The questions of a task, made of the records of a JSONL file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lm.errors import UserError
from lm.evaluation.in_context.task import Task
from lm.evaluation.in_context.template import field


class Question(NamedTuple):
    """A record as the task has it.

    Attributes:
      place: the file and the line.
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


def read_questions(task: Task, path: str, flag: str = 'task_data') -> list[Question]:
    """The questions of a JSONL file, one object a line, in order; empty lines are passed over.

    Args:
      task: says what is a question.
      path: of the file.
      flag: that names it, for errors.

    Raises:
      UserError: it cannot be read or is empty, is not UTF-8 or not JSONL, or a record lacks a field
        or holds there what the task cannot use.
    """
    words = f'--{flag}={path}'
    records = _records(path, words)
    found = [_question(task, record, f'{words}:{line}') for line, record in records]
    if not found:
        raise UserError(f'{words}: has no record; give one JSON object a line')
    return found


def _records(path: str, words: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, with their lines from 1."""
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f'{words}: cannot be read ({error.strerror})') from None
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{words}: not UTF-8 (0x{content[error.start]:02x} at byte {error.start}); convert it: '
            'iconv -f ENCODING -t UTF-8, where ENCODING is often latin1'
        ) from None
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            json.dumps(record, ensure_ascii=False).encode()  # JSON can spell half a character
        except UnicodeEncodeError:
            raise UserError(
                f'{words}:{number}: holds an unpaired surrogate, which is no text; remove it'
            ) from None
        except ValueError as error:
            raise UserError(f'{words}:{number}: not JSON ({error})') from None
        if not isinstance(record, dict):
            raise UserError(
                f'{words}:{number}: not a JSON object but {type(record).__name__}; give one a line'
            )
        yield number, record


def _question(task: Task, record: Mapping[str, Any], place: str) -> Question:
    prompt = task.prompt.filled(record, place)
    if task.answers is not None:
        return Question(place, prompt, (), None, _texts(record, task.answers, place, least=1))
    choices = _choices(task, record, place)
    gold = field(record, str(task.gold), place)
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise UserError(
            f'{place}: {task.gold}={gold!r}: must be the number of the right one of '
            f'{len(choices)} choices, from 0'
        )
    return Question(place, prompt, choices, gold, (choices[gold],))


def _choices(task: Task, record: Mapping[str, Any], place: str) -> tuple[str, ...]:
    if isinstance(task.choices, str):
        return _texts(record, task.choices, place, least=2)
    assert task.choices is not None
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
