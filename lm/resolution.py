"""Configs changed by dotted path, checked against the members that exist, written and read.

Imports no jax.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lm import registry
from lm.config import BUDGETS, Config, require_one_length
from lm.errors import UserError, did_you_mean
from lm.fields import field_types, flatten, is_instance, replaced, require, sections, type_words


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """`config` with the leaves at the dotted paths of `changes` replaced, all at once.

    A changed member name brings that member's default options; changes to its options come on
    top. `train.steps` takes the place of a budget that `config` has, and a budget that of another.
    All sections are validated after all changes are in, so their order does not matter.

    Raises:
      UserError: an unknown path, a value of the wrong type, a value that a section refuses, or two
        that each say how long the run is.
    """
    lengths = {name: changes.get(f'train.{name}') for name in ('steps', *BUDGETS)}
    require_one_length(lengths)
    if any(value is not None for value in lengths.values()):
        changes = {**{f'train.{name}': None for name in BUDGETS}, **changes}
    return _with_leaves(config, changes)


def _with_leaves(config: Config, changes: Mapping[str, Any]) -> Config:
    """`config` with these leaves; raises as `override`, but leaves the others as they are."""
    members = [path for path in flatten(config) if path.endswith('.name')]
    named = {path: changes[path] for path in members if path in changes}
    config = resolve_options(replaced(config, named))
    types_of = field_types(config)
    for path, value in changes.items():
        if path not in types_of:
            raise UserError(f'{path}: no such field{did_you_mean(path, [*types_of])}')
        annotation = types_of[path][0]
        if not is_instance(value, annotation):
            whole = isinstance(value, float) and value.is_integer() and is_instance(1, annotation)
            raise UserError(
                f'{path}={value!r}: must be {type_words(annotation)}, not {type(value).__name__}'
                + (f'; give {int(value)}' if whole else '')
            )
    return replaced(config, changes)


def resolve_options(config: Config) -> Config:
    """`config` with each section's options of the type its member defines.

    Raises:
      UserError: a section names a member that does not exist.
    """
    resolved: dict[str, Any] = {}
    for name, section in sections(config).items():
        kind = getattr(section, 'KIND', None)
        if kind is None:
            continue
        member = registry.lookup(kind, section.name, f'{name}.name')
        if type(section.options) is not member.Options:
            resolved[name] = dataclasses.replace(section, options=member.Options())
    return dataclasses.replace(config, **resolved)


def resolve(config: Config) -> Config:
    """`config` with its options filled in, checked against the members that exist.

    Raises:
      UserError: an unknown member, an objective that the model's family lacks, or a run that the
        architecture refuses.
    """
    config = resolve_options(config)
    registry.lookup('schedules', config.optim.schedule, 'optim.schedule')
    for name in config.train.loggers:
        registry.lookup('loggers', name, 'train.loggers')
    model = registry.lookup('models', config.model.name, 'model.name')
    objective = registry.lookup('objectives', config.objective.name, 'objective.name')
    require(
        model.FAMILY in objective.FAMILIES,
        f'objective.name={config.objective.name}: model.name={config.model.name} is of the '
        f'{model.FAMILY} family; this objective trains {" and ".join(objective.FAMILIES)} models',
    )
    config = _with_head(config, getattr(objective, 'HEAD', 'vocabulary'))
    if hasattr(objective, 'check'):
        objective.check(config)
    if hasattr(model, 'check'):
        model.check(config)
    return config


def _with_head(config: Config, head: Any) -> Config:
    """`config` with the head that its objective asks for."""
    asked = config.model.head
    require(
        asked in (None, head),
        f'model.head={asked}: objective.name={config.objective.name} asks for {head}; leave it '
        'unset',
    )
    require(
        config.model.num_labels is None or head in ('sequence', 'token'),
        f'model.num_labels={config.model.num_labels}: objective.name={config.objective.name} tells '
        'no labels apart; leave it unset',
    )
    # Left open where it is the usual one, so that a text model's config.json says no more.
    if head == 'vocabulary':
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, head=head))


def to_json(config: Any) -> dict[str, Any]:
    """The config as nested plain dicts, ready for `json.dump`."""
    return {
        name: to_json(value) if dataclasses.is_dataclass(value) else value
        for name, value in sections(config).items()
    }


def from_json(tree: Mapping[str, Any]) -> Config:
    """The config whose `to_json` is `tree`.

    Raises:
      UserError: a field that this version does not have, or of another type.
    """
    changes: dict[str, Any] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping):
                walk(value, f'{prefix}{key}.')
            else:
                changes[prefix + key] = tuple(value) if isinstance(value, list) else value

    walk(tree, '')
    return _with_leaves(Config(), changes)
