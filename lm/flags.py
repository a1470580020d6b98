"""Dataclasses <-> absl flags: one flag a config field, typed by its annotation.

Knows no field by name: `lm.config` says what there is. Every mistake is a `UserError` that names
the flag, the value and what would be right.
"""

import dataclasses
import difflib
import math
import textwrap
import typing
from collections.abc import Sequence
from typing import Any, Literal

from absl import flags as absl_flags

from lm.config import Config
from lm.errors import UserError
from lm.fields import field_types, flatten, is_union, type_words
from lm.named_configs import named_config
from lm.resolution import override, resolve

CONFIG = 'config'
"""The flag that names a config, and the prefix of the flags that change its fields."""


class Flags:
    """The flags of one command: defined, then parsed, then read by name.

    An absl `FlagValues` of its own, so that two commands in one process share nothing. A flag of
    type `X | None` is unset by `none`; a bool may stand alone (`--strict`) or be negated
    (`--nostrict`).

    Attributes:
      words: what stands among the flags and is none, of a verb that takes such.
      command: what follows `--`, of a verb that takes a command.
      about: what `--help` says of the verb, where that depends on its words; else its docstring.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Flags to be read from `argv`, the words after the verb."""
        self._argv = list(argv)
        self._values = absl_flags.FlagValues()
        self._types: dict[str, Any] = {}
        self._base: Config | None = None
        self._words_name = ''
        self._command_name = ''
        self.words: tuple[str, ...] = ()
        self.command: tuple[str, ...] = ()
        self.about = ''

    def define_words(self, name: str) -> None:
        """Lets words that are no flags stand among the flags: `words`, in messages `name`."""
        self._words_name = name
        self._values.set_gnu_getopt(True)

    def define_command(self, name: str) -> None:
        """Takes what follows `--` as a command, `command`, and no flags; in the usage `name`."""
        self._command_name = name
        if '--' in self._argv:
            end = self._argv.index('--')
            self.command = tuple(self._argv[end + 1 :])
            del self._argv[end:]

    @property
    def first_word(self) -> str | None:
        """The word that comes before all flags, before anything is parsed; None: there is none."""
        return next((word for word in self._argv[:1] if not word.startswith('-')), None)

    @property
    def usage(self) -> str:
        """What may follow the verb."""
        if self._command_name:
            return f'{self._words_name} [--flag=value ...] -- {self._command_name}'
        words = f'{self._words_name} ... ' if self._words_name else ''
        return f'{words}[--flag=value ...]'

    def define(self, name: str, annotation: Any, default: Any, meaning: str) -> None:
        """Adds the flag `--name`, whose values are of the type `annotation`."""
        flag = absl_flags.Flag(
            _Parser(annotation), None, name, default, meaning, boolean=annotation is bool
        )
        self._types[name] = annotation
        self._values[name] = flag

    def define_setting(self, kind: type[Any]) -> None:
        """Adds a flag for each field of a dataclass whose fields are made by `setting`."""
        for field in dataclasses.fields(kind):
            meaning = field.metadata.get('help', '')
            self.define(field.name, field.type, field.default, meaning)

    def setting(self, kind: type[Any]) -> Any:
        """The dataclass of `define_setting` as the user set it."""
        return kind(**{field.name: self[field.name] for field in dataclasses.fields(kind)})

    def define_config(self, default: str | Config) -> None:
        """Adds `--config` and a flag for every field of the config that it names.

        Args:
          default: what `--config` is when it is not given: a named config, or a config itself.

        Raises:
          UserError: no such config, or one of its members does not exist.
        """
        name = self.peek(CONFIG)
        shown = default if isinstance(default, str) else ''
        self.define(CONFIG, str, shown, 'a named config or FILE.py, either with :PRESET')
        base = default if name is None else named_config(name)
        if isinstance(base, str):
            base = named_config(base)
        # Which options there are depends on the members named, so these come first.
        members = {p: self.peek(f'{CONFIG}.{p}') for p in flatten(base) if p.endswith('.name')}
        self._base = override(base, {p: value for p, value in members.items() if value is not None})
        defaults = flatten(self._base)
        for path, (annotation, meaning) in field_types(self._base).items():
            self.define(f'{CONFIG}.{path}', annotation, defaults[path], meaning)

    def peek(self, name: str) -> str | None:
        """The text given for `--name`, before anything is parsed; None where it is not given."""
        found = None
        for i, word in enumerate(self._argv):
            if word == '--':
                break
            following = self._argv[i + 1] if i + 1 < len(self._argv) else None
            key, equals, value = word.lstrip('-').partition('=')
            if word.startswith('-') and key == name:
                found = value if equals else following
        return found

    def parse(self) -> None:
        """Reads all flags.

        Raises:
          UserError: an unknown flag, a value of the wrong type, or a word that is no flag where
            none is taken.
        """
        try:
            left = self._values(['lm', *self._argv])[1:]
        except absl_flags.UnrecognizedFlagError as error:
            kind = 'field' if error.flagname.startswith(f'{CONFIG}.') else 'flag'
            hint = self._hint(error.flagname)
            raise UserError(f'--{error.flagname}: no such {kind}; {hint}') from None
        except absl_flags.Error as error:
            # 'flag --NAME=VALUE: why not', or, at the end of the line, 'Missing value for ...'
            raise UserError(str(error).removeprefix('flag ')) from None
        if left and not self._words_name:
            raise UserError(f'{left[0]!r}: not a flag; values are given as --flag=value')
        self.words = tuple(left)

    def __getitem__(self, name: str) -> Any:
        """The value of `--name`."""
        return self._values[name].value

    def given(self, name: str) -> bool:
        """Whether the user gave `--name`, or with a trailing dot any flag that begins so."""
        if name.endswith('.'):
            return any(self._values[n].present for n in self._types if n.startswith(name))
        return bool(self._values[name].present)

    def required(self, name: str) -> Any:
        """The value of `--name`, which must be there and not empty.

        Raises:
          UserError: it is not.
        """
        value = self[name]
        if value is None or value == '':
            raise UserError(f'--{name}: missing; give {self._values[name].help}')
        return value

    def config(self) -> Config:
        """The config of `--config` with the fields that the user gave, checked and resolved.

        Raises:
          UserError: a value that a section or a member refuses.
        """
        assert self._base is not None, 'define_config comes first'
        flags = {path: f'{CONFIG}.{path}' for path in flatten(self._base)}
        given = {path: self[flag] for path, flag in flags.items() if self.given(flag)}
        return resolve(override(self._base, given))

    def describe(self) -> str:
        """Every flag with its type, default and meaning, in the order of definition."""
        lines = []
        for name, annotation in self._types.items():
            default = _as_text(self._values[name].default)
            lines.append(f'  --{name}={default}' if default else f'  --{name}')
            about = f'{type_words(annotation)}: {self._values[name].help}'
            lines += textwrap.wrap(about, 94, initial_indent=' ' * 6, subsequent_indent=' ' * 6)
        return '\n'.join(lines)

    def _hint(self, name: str) -> str:
        """What the writer of the unknown flag `name` may have meant."""
        parent, _, last = name.rpartition('.')
        inside = [n for n in self._types if n.startswith(f'{name}.')]
        if inside:
            fields = ', '.join(n.removeprefix(f'{name}.') for n in inside)
            return f'it is a section with the fields {fields}'
        siblings = [n for n in self._types if n.rpartition('.')[0] == parent]
        for group in (siblings, [*self._types]):
            by_last: dict[str, str] = {}
            for known in group:
                by_last.setdefault(known.rpartition('.')[2], known)
            close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.65)
            if close:
                return f'did you mean --{by_last[close[0]]}?'
        return '--help lists them all'


class _Parser(absl_flags.ArgumentParser):
    """Text to a value of the type `annotation`."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    def parse(self, argument: Any) -> Any:
        """The value that `argument` stands for; a default comes as a value already."""
        if not isinstance(argument, str):
            return argument
        try:
            return parsed(argument, self.annotation)
        except ValueError:
            raise ValueError(f'must be {type_words(self.annotation)}') from None

    def flag_type(self) -> str:
        """The type in words."""
        return type_words(self.annotation)


def parsed(text: str, annotation: Any) -> Any:
    """`text` as a value of type `annotation`; ValueError where it is none."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        if type(None) in inner and text.lower() == 'none':
            return None
        return _first_that_parses(text, [a for a in inner if a is not type(None)])
    if origin is tuple:
        parts = [part.strip() for part in text.split(',')] if text.strip() else []
        if not all(parts):
            raise ValueError(text)
        return tuple(parsed(part, inner[0]) for part in parts)
    if origin is Literal:
        by_text = {str(value): value for value in inner}
        if text not in by_text:
            raise ValueError(text)
        return by_text[text]
    if annotation is bool:
        return parsed(text.lower(), Literal['true', 'false', '1', '0']) in ('true', '1')
    if annotation is int:
        return _whole(text)
    if annotation is float and not math.isfinite(float(text)):
        raise ValueError(text)
    return annotation(text)


def _whole(text: str) -> int:
    """`12`, or `1.2e9` where that is a whole number; never rounded."""
    if 'e' not in text.lower():
        return int(text)
    value = float(text)
    if not value.is_integer() or abs(value) >= 2**53:
        raise ValueError(text)
    return int(value)


def _first_that_parses(text: str, annotations: Sequence[Any]) -> Any:
    for annotation in annotations:
        try:
            return parsed(text, annotation)
        except ValueError:
            continue
    raise ValueError(text)


def _as_text(value: Any) -> str:
    """A default as it would be typed."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
