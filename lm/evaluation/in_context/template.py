"""Prompt templates: text with the names of a record's fields in braces."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from lm.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Template:
    """A text in which `{field}` stands for a field of a record, and `{{` for a brace.

    Attributes:
      text: as it is written.
      parts: what stands before each field, and the field; None of the last.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...]

    def filled(self, record: Mapping[str, Any], place: str) -> str:
        """The text for one record.

        Args:
          record: its fields: text or numbers.
          place: of the record, for errors.

        Raises:
          UserError: the record lacks a field, or holds there what is neither text nor a number.
        """
        return ''.join(
            before + ('' if name is None else _text(record, name, place))
            for before, name in self.parts
        )


def template(text: Any, words: str) -> Template:
    """A template as a task's file has it.

    Args:
      text: what is written there.
      words: the file and the key, for errors.

    Raises:
      UserError: no text, a brace without its other one, or braces around what is no field's name.
    """
    if not isinstance(text, str):
        raise UserError(f'{words}={text!r}: must be a text with fields in braces')
    try:
        parts = tuple(Formatter().parse(text))
    except ValueError as error:
        raise UserError(f'{words}={text!r}: {error}; a brace itself is written twice') from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise UserError(
                f'{words}={text!r}: {{{name}}} is no name of a field; between braces stands a name '
                'alone, and a brace itself is written twice'
            )
    return Template(text, tuple((before, name) for before, name, _, _ in parts))


def field(record: Mapping[str, Any], name: str, place: str) -> Any:
    """A field of a record.

    Raises:
      UserError: it has none of that name.
    """
    if name not in record:
        raise UserError(
            f'{place}: has no field {name}, which the task asks for'
            f'{did_you_mean(name, [*record])} (fields: {", ".join(record) or "none"})'
        )
    return record[name]


def _text(record: Mapping[str, Any], name: str, place: str) -> str:
    value = field(record, name, place)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f'{place}: {name} is {type(value).__name__}, not text')
    return str(value)
