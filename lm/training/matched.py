"""Which parameters of a run come from elsewhere: matched by path, and told in three lists."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm.config import ModelConfig
from lm.errors import UserError
from lm.fields import sections
from lm.hub.found import grouped
from lm.models.functional import Functional
from lm.training.given import Given, There

_SHAPE = (
    'num_layers', 'd_model', 'num_heads', 'num_kv_heads', 'head_dim', 'd_ff', 'vocab_size',
    'vocab_multiple', 'max_positions',
)  # fmt: skip
"""Fields of `model` that sizes follow from."""
_BEGINNING = ('init_std', 'scale_residual_init', 'head')
"""Options that a model with parameters does not follow, or that the lists tell."""


_LABELS = {'loaded': 'loaded', 'newly_initialised': 'new', 'ignored': 'ignored'}


@dataclass(frozen=True)
class Matched:
    """The paths of parameters.

    Attributes:
      loaded: those that come from elsewhere.
      new: those of the run that are initialised.
      left: those that are there, and not in the run.
      beyond: what is there besides, in few words.
      otherwise: what the run's model does otherwise than the one that they are of.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]
    beyond: tuple[str, ...]
    otherwise: tuple[str, ...]

    def lists(self) -> dict[str, list[str]]:
        """The three lists, in few words, as history.jsonl keeps them."""
        return {
            'loaded': grouped(self.loaded, {*self.new, *self.left}),
            'newly_initialised': grouped(self.new, self.loaded),
            'ignored': [*grouped(self.left, self.loaded), *self.beyond],
        }

    def told(self) -> Iterator[str]:
        """The same as lines of the banner."""
        for label, names in self.lists().items():
            yield f'{_LABELS[label]:<10} {", ".join(names) or "nothing"}'
        for words in self.otherwise:
            yield f'note: {words}'


def matched(
    given: Given, own: Functional, shapes: Mapping[str, Any], labels: Sequence[str] = ()
) -> Matched:
    """What of a run's parameters is given.

    A parameter of the same path is another one where its axes are others, and where it tells other
    labels apart, or the same in another order: a head for words is none for labels.

    Args:
      given: from elsewhere.
      own: the run's model.
      shapes: ShapeDtypeStructs of its parameters.
      labels: that a head for labels tells apart, in the order of its logits.

    Raises:
      UserError: one is there in another shape, or none is there.
    """
    there = given.there(own.config)
    loaded, new = [], []
    alike = there.model.head == own.config.head and tuple(given.labels) == tuple(labels)
    for path, x in shapes.items():
        dims = own.dims[path]
        if ('O' in dims and not alike) or there.dims.get(path) != dims or path not in there.shapes:
            new.append(path)
        elif there.shapes[path] == x.shape:
            loaded.append(path)
        elif 'O' in dims:
            new.append(path)
        else:
            raise UserError(_of_another_shape(given, own.config, path, there, x.shape))
    left = [path for path in there.shapes if path not in loaded]
    if not loaded:
        raise UserError(
            f'{given.words}: a {given.name}, of which a {own.config.name} has no parameter; '
            f'set model.name={given.name}, or give a model that is alike'
        )
    otherwise = _otherwise(given, own.config, there.model)
    return Matched(*map(tuple, (loaded, new, left, there.ignored, otherwise)))


def _otherwise(given: Given, model: ModelConfig, there: ModelConfig) -> list[str]:
    """What a run's model does otherwise with the parameters that it is given."""
    if there.name != model.name:
        return [f'model.name={model.name}, and {there.name} in {given.words}']
    here, other = _options(model), _options(there)
    return [
        f'model.options.{name}={value}, and {other[name]} in {given.words}'
        for name, value in here.items()
        if name in other and other[name] != value
    ]


def _of_another_shape(
    given: Given, model: ModelConfig, path: str, there: There, shape: Sequence[int]
) -> str:
    words = f'{path} is {[*there.shapes[path]]} there and {[*shape]} in this run'
    fields = _differing(model, there.model)
    if not fields:
        return f'{given.words}: {words}; give a model of the same shape'
    name, (here, other) = next(
        (pair for pair in fields.items() if None not in pair[1]), next(iter(fields.items()))
    )
    flags = ' '.join(f'--config.model.{field}={_value(x)}' for field, (_, x) in fields.items())
    return (
        f'model.{name}={_value(here)}: the model in {given.words} has {_value(other)} ({words}); '
        f'set {flags}'
    )


def _differing(model: ModelConfig, there: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """Fields that may change a shape: (here, there)."""
    here = {field: getattr(model, field) for field in _SHAPE}
    other = {field: getattr(there, field) for field in _SHAPE}
    # One that is left open may be the number that the other gives.
    for field, own, theirs in (
        ('num_kv_heads', model.kv_heads, there.kv_heads),
        ('head_dim', model.head_width, there.head_width),
    ):
        if own == theirs:
            del here[field]
    if type(model.options) is type(there.options):
        for found, config in ((here, model), (other, there)):
            found |= {f'options.{k}': v for k, v in _options(config).items()}
    return {field: (here[field], other[field]) for field in here if here[field] != other[field]}


def _options(model: ModelConfig) -> dict[str, Any]:
    """The options that change what is computed, by name."""
    if not dataclasses.is_dataclass(model.options):
        return {}
    options = sections(model.options)
    return {name: value for name, value in options.items() if name not in _BEGINNING}


def _value(value: Any) -> Any:
    return 'none' if value is None else value
