"""A task as data: a small YAML or JSON file that says how a record becomes a question."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lm.errors import UserError, did_you_mean
from lm.evaluation.in_context.template import Template, template

SHIPPED = Path(__file__).parent / 'tasks'
"""The folder of the tasks that are known by name."""
SUFFIXES = ('.yaml', '.yml', '.json')
_KEYS = (
    'about', 'prompt', 'choices', 'gold', 'labels', 'answers', 'delimiter', 'separator', 'stop',
    'max_new_tokens',
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """How a record becomes a question, and a solved one an example.

    Attributes:
      name: of the task, or its file.
      prompt: the question, up to where the answer comes.
      choices: a field that holds the answers to choose from, or a template for each; None: there
        are none, the answer is to be written.
      gold: the field with the number of the right choice, from 0, or its label.
      labels: of the choices, where `gold` holds one of these; empty: it holds a number.
      answers: the field with the right answer, or a list of those that are right.
      delimiter: between a prompt and its answer.
      separator: between an example and what follows it.
      stop: where a written answer ends.
      max_new_tokens: of a written answer; None: as many as the longest choice has.
    """

    name: str
    prompt: Template
    choices: str | tuple[Template, ...] | None = None
    gold: str | None = None
    labels: tuple[str, ...] = ()
    answers: str | None = None
    delimiter: str = ' '
    separator: str = '\n\n'
    stop: tuple[str, ...] = ('\n',)
    max_new_tokens: int | None = None


def shipped_tasks() -> dict[str, Path]:
    """The files of the tasks that are known by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob('*.yaml'))}


def read_task(named: str) -> Task:
    """A task that is known by name, or that a file says.

    Raises:
      UserError: there is none, or the file says no task.
    """
    known = shipped_tasks()
    path = known.get(named, Path(named).expanduser())
    if named not in known and path.suffix not in SUFFIXES:
        raise UserError(
            f'--task={named}: no such task{did_you_mean(named, [*known])}; or give a file '
            f'({", ".join(SUFFIXES)})'
        )
    try:
        text = path.read_bytes().decode()
        # YAML takes most JSON, but none that is indented by tabs.
        written = json.loads(text) if path.suffix == '.json' else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f'--task={named}: cannot be read ({error.strerror})') from None
    except UnicodeDecodeError as error:
        raise UserError(
            f'--task={named}: byte {error.start} is not UTF-8; convert it (iconv)'
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = 'JSON' if path.suffix == '.json' else 'YAML'
        raise UserError(f'--task={named}: is no {kind} ({error})') from None
    return _task(written, named)


def _task(written: Any, named: str) -> Task:
    words = f'--task={named}'
    if not isinstance(written, dict):
        raise UserError(f'{words}: must say keys and values: {", ".join(_KEYS)}')
    for key in written:
        if key not in _KEYS:
            raise UserError(f'{words}: {key}: no such key{did_you_mean(str(key), [*_KEYS])}')
    if 'prompt' not in written:
        raise UserError(f'{words}: prompt: missing; give the question as a template')
    chooses, writes = 'choices' in written, 'answers' in written
    if chooses == writes:
        raise UserError(f'{words}: give either choices (with gold) or answers, not both or neither')
    kind = 'choices' if chooses else 'answers'
    for key, needed in (('gold', chooses), ('max_new_tokens', writes)):
        if needed and key not in written:
            raise UserError(f'{words}: {key}: missing beside {kind}')
    for key in ('gold', 'labels'):
        if writes and key in written:
            raise UserError(f'{words}: {key}: says which of the choices is right; {kind} has none')
    most = written.get('max_new_tokens')
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise UserError(f'{words}: max_new_tokens={most!r}: must be a whole number of at least 1')
    return Task(
        named,
        template(written['prompt'], f'{words}: prompt'),
        _choices(written['choices'], words) if chooses else None,
        _text(written, 'gold', None, words),
        _list(written.get('labels', []), 'labels', words),
        _text(written, 'answers', None, words),
        str(_text(written, 'delimiter', Task.delimiter, words)),
        str(_text(written, 'separator', Task.separator, words)),
        _list(written.get('stop', list(Task.stop)), 'stop', words),
        most,
    )


def _text(written: Mapping[str, Any], key: str, default: str | None, words: str) -> str | None:
    value = written.get(key, default)
    if key in written and not isinstance(value, str):
        raise UserError(f'{words}: {key}={value!r}: must be a text')
    return value


def _choices(value: Any, words: str) -> str | tuple[Template, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) > 1:
        return tuple(template(text, f'{words}: choices') for text in value)
    raise UserError(f"{words}: choices={value!r}: must be a field's name, or at least 2 templates")


def _list(value: Any, key: str, words: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise UserError(f'{words}: {key}={value!r}: must be a list of texts, none of them empty')
    return tuple(value)
