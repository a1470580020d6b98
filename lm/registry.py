"""Members by name: models, objectives, optimizers, schedules, configs, converters and loggers.

A member is a module of its kind's package; its file name is its name, so a new member is a new
file and there is no list to edit. Nothing is imported before it is asked for. Files whose name
begins with an underscore are not members. A user's own file or notebook cell joins in with
`register`.
"""

import functools
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from lm.errors import UserError, did_you_mean

PACKAGES = {
    'models': 'lm.models.architectures',
    'objectives': 'lm.objectives',
    'optimizers': 'lm.optim.optimizers',
    'schedules': 'lm.optim.schedules',
    'configs': 'lm.configs',
    'converters': 'lm.hub.architectures',
    'loggers': 'lm.training.loggers',
    'tasks': 'lm.evaluation.tasks',
}
"""Where each kind's members live. What a member must define is said in its package's docstring."""

_registered: dict[tuple[str, str], Any] = {}


def register(kind: str, name: str, member: Any) -> None:
    """Adds `member` (a module, class or object with the kind's attributes) under `name`.

    A name that was registered before now stands for the new member: a notebook cell may be run
    again, and a user's file loaded again.

    Raises:
      UserError: the kind does not exist, or the name is that of a member which comes with `lm`.
    """
    if kind not in PACKAGES:
        raise UserError(f'registry kind {kind!r} does not exist{did_you_mean(kind, [*PACKAGES])}')
    if name in _shipped(kind):
        raise UserError(f'{kind} {name!r} already exists; register it under another name')
    _registered[kind, name] = member


def names(kind: str) -> list[str]:
    """The names of all members of a kind, sorted; imports none of them."""
    return sorted({*_shipped(kind), *(name for k, name in _registered if k == kind)})


def lookup(kind: str, name: str, field: str) -> Any:
    """The member `name` of `kind`; `field` is what the user set, named in the error.

    Raises:
      UserError: there is no such member.
    """
    if (kind, name) in _registered:
        return _registered[kind, name]
    if name not in _shipped(kind):
        hint = did_you_mean(name, names(kind))
        if 'did you mean' not in hint and kind != 'configs':
            hint += ', or of your own, registered by --import=FILE.py or lm.register'
        raise UserError(f'{field}={name}: no such member{hint}')
    return importlib.import_module(f'{PACKAGES[kind]}.{name}')


@functools.cache
def _shipped(kind: str) -> list[str]:
    parts = PACKAGES[kind].split('.')
    folder = Path(__file__).parent.joinpath(*parts[1:])
    return [m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith('_')]
