"""Labelled text: records of several fields, each an example to learn from, or several.

A record is a mapping of names to texts, numbers and lists, as a line of JSONL holds one. What of it
a task reads, and how that becomes arrays of ids, its `ExampleCodec` says. Prepared, an example is a
document of a `Store` whose tokens are its fields one after another.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from lm.errors import UserError, did_you_mean

Record = Mapping[str, Any]

Side = tuple[str, np.ndarray, int]
"""Of a side of rows: the setting that says its length, the places taken, [N], and all of them."""


class Encoded(NamedTuple):
    """A text as ids.

    Attributes:
      ids: int32 [n], without bos or eos.
      spans_n2: which characters of the text each id stands for, from and before; only for a codec
        that `aligns`.
    """

    ids: Int[np.ndarray, ' n']
    spans_n2: Int[np.ndarray, 'n 2'] | None = None


@runtime_checkable
class ExampleCodec(Protocol):
    """How the records of a task become arrays of ids."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the arrays that an example becomes, in their order."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that decides them, as plain JSON."""

    @property
    def aligns(self) -> bool:
        """Whether it asks where in a text each id lies."""

    def texts(self, record: Record, place: str) -> list[str]:
        """What of a record is to be tokenised.

        Args:
          record: one example.
          place: file and line, for errors.

        Raises:
          UserError: a field is missing, or is of another kind.
        """

    def encode(
        self, record: Record, place: str, texts: Sequence[Encoded]
    ) -> list[list[np.ndarray]]:
        """What is learned from a record, as a rule one example: the fields of each, int32.

        Raises as `texts`.

        Args:
          record: one example.
          place: file and line, for errors.
          texts: what `texts` gave, as ids.
        """

    def labels(self, record: Record) -> Iterable[str]:
        """The labels of a record, as often as it has each; none where a task has no such thing."""


def text_of(record: Record, field: str, option: str, place: str) -> str:
    """The text of a field; whole numbers count as text.

    Args:
      record: one example.
      field: its name.
      option: the setting that names the field, for errors.
      place: file and line, for errors.

    Raises:
      UserError: there is none.
    """
    value = field_of(record, field, option, place)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(
            f'objective.options.{option}={field}: {place} holds {type(value).__name__} there, '
            'not text'
        )
    return str(value)


def field_of(record: Record, field: str, option: str, place: str) -> Any:
    """The value of a field; arguments and errors as of `text_of`."""
    if field not in record:
        hint = did_you_mean(field, [*record])
        raise UserError(
            f'objective.options.{option}={field}: {place} has no such field{hint} '
            f'(fields: {", ".join(record) or "none"})'
        )
    return record[field]


def as_ids(text: str) -> np.ndarray:
    """A label as the bytes of its UTF-8, int32: a field that no tokenizer touches."""
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def as_text(ids: np.ndarray) -> str:
    """The inverse of `as_ids`."""
    return bytes(np.asarray(ids, np.uint8)).decode()
