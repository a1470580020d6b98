"""Where `lm launch` starts a command: a module each, found by its file's name.

A place defines `Setting`, a frozen dataclass of `lm.fields.setting`s, each of which is a flag, and
two functions of a `Setting` and the command's words (`('train', '--workdir=runs/x')`): `describe`
tells exactly what would be executed, files with their contents and commands as a shell takes them;
`start` executes just that and returns the exit status.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from lm.errors import UserError, did_you_mean

from .._modules import summaries


class Place(Protocol):
    """What the module of a place defines."""

    __doc__: str | None
    Setting: type[Any]

    def describe(self, setting: Any, command: tuple[str, ...]) -> str:
        """Exactly what `start` would execute."""

    def start(self, setting: Any, command: tuple[str, ...]) -> int:
        """Executes it; returns the exit status."""


def names() -> Mapping[str, str]:
    """What each place is, in a line, by name; imports none of them."""
    return summaries(Path(__file__).parent)


def load(name: str) -> Place:
    """The place of that name.

    Raises:
      UserError: there is none.
    """
    known = [*names()]
    if name not in known:
        raise UserError(f'{name!r}: no such place{did_you_mean(name, known)}')
    return cast(Place, importlib.import_module(f'.{name}', __package__))
