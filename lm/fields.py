"""The fields of nested frozen dataclasses: their paths, types and meanings. Imports no jax.

A leaf's path is dotted (`model.d_model`). A dataclass that has an `options` field holds another
dataclass in it, or None where that is not chosen yet; `options` itself is no leaf.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from lm.errors import UserError


def setting(default: Any, meaning: str, *, may_change: bool = False) -> Any:
    """A config field: its default and its meaning, as `--help` prints it.

    `may_change` marks a field of an otherwise fixed section that does not decide what is
    computed: a resumed run may set it anew.
    """
    return dataclasses.field(default=default, metadata={'help': meaning, 'may_change': may_change})


def require(condition: bool, message: str) -> None:
    """Raises UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def sections(config: Any) -> dict[str, Any]:
    """The fields of a config or of one of its sections, by name."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
    """`{'model.d_model': 128, ...}`: every leaf by its dotted path, in the order of the fields."""
    flat: dict[str, Any] = {}
    for name, value in sections(config).items():
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, f'{prefix}{name}.'))
        elif name != 'options':
            flat[prefix + name] = value
    return flat


def field_types(config: Any, prefix: str = '') -> dict[str, tuple[Any, str]]:
    """`{'model.d_model': (int, meaning), ...}` for every leaf of `flatten`."""
    hints = typing.get_type_hints(type(config))
    table: dict[str, tuple[Any, str]] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            table.update(field_types(value, f'{prefix}{field.name}.'))
        elif field.name != 'options':
            table[prefix + field.name] = (hints[field.name], field.metadata.get('help', ''))
    return table


def is_union(annotation: Any) -> bool:
    """Whether a type is `X | Y`; with a Literal inside, Python makes it a `typing.Union`."""
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


def type_words(annotation: Any) -> str:
    """A type as a user reads it: `int`, `int or none`, `one of ddp, zero1`."""
    if typing.get_origin(annotation) is Literal:
        return f'one of {", ".join(map(str, typing.get_args(annotation)))}'
    if is_union(annotation):
        return ' or '.join(type_words(a) for a in typing.get_args(annotation))
    if annotation is type(None):
        return 'none'
    if typing.get_origin(annotation) is tuple:
        return f'a comma-separated list of {type_words(typing.get_args(annotation)[0])}'
    return {str: 'text', bool: 'true or false'}.get(annotation, getattr(annotation, '__name__', ''))


def is_instance(value: Any, annotation: Any) -> bool:
    """Whether `value` fits the type `annotation`; an int is a float too, a bool is no int."""
    if typing.get_origin(annotation) is Literal:
        return value in typing.get_args(annotation)
    if is_union(annotation):
        return any(is_instance(value, a) for a in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        inner = typing.get_args(annotation)[0]
        return isinstance(value, tuple) and all(is_instance(v, inner) for v in value)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


def replaced(config: Any, changes: Mapping[str, Any]) -> Any:
    """`config` with the leaves at the paths of `changes` set, each dataclass rebuilt once."""
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        head, _, rest = path.partition('.')
        if rest:
            below.setdefault(head, {})[rest] = value
        else:
            here[head] = value
    here.update({head: replaced(getattr(config, head), inner) for head, inner in below.items()})
    return dataclasses.replace(config, **here)
