"""A Hugging Face folder as parameters of a model of ours that need not be its own.

The table is that of our model: what it names and the folder lacks (a head that is to be trained)
stays to be initialised, and what the folder has beyond it is ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from lm.config import ModelConfig
from lm.errors import UserError
from lm.hub.folder import ForeignModel, Weights, told_of
from lm.hub.found import Found, grouped, listed
from lm.hub.table import Table, Tensor, letter_sizes
from lm.models.functional import Functional, functional
from lm.precision.policy import POLICIES
from lm.shapes import Params


@dataclass(frozen=True)
class Fitting:
    """What a folder holds of a model.

    Attributes:
      shapes: of each parameter that is there, as the folder's own sizes make it.
      ignored: tensors that are none of the model's, in few words.
    """

    shapes: Mapping[str, tuple[int, ...]]
    ignored: list[str]
    _config: ModelConfig
    _found: Found

    def params(self, shardings: Mapping[str, jax.sharding.Sharding]) -> Params:
        """The parameters, as `Weights.params`; their shapes must be those of the model.

        Raises:
          UserError: a tensor is not what the model's config makes it.
        """
        self._found.verify("the run's config")
        return Weights(self._config, self._found.table, self._found.tensors).params(shardings)


def fitting(folder: Path, foreign: ForeignModel, config: ModelConfig) -> Fitting:
    """What of a folder are parameters of a model.

    Args:
      folder: for errors.
      foreign: what it says of its model.
      config: of our model, of the same architecture.

    Raises:
      UserError: a parameter is there of some layers only.
    """
    theirs = foreign.config
    # Of as many layers as there are, so that other numbers of them are other shapes.
    config = replace(config, num_layers=theirs.num_layers, scan_unroll=1)
    model = functional(config, POLICIES['fp32'])
    with told_of(folder):
        table = foreign.converter.table(config)
        own = tuple(tensor for tensor in table.tensors if _is_of(tensor, model))
        found = Found.among(config, replace(table, tensors=own), foreign.files, str(folder))
        there = tuple(tensor for tensor in own if _is_there(tensor, found))
    found = replace(found, table=replace(table, tensors=there))
    sizes = letter_sizes(functional(theirs, POLICIES['fp32']))
    sizes['V'] = replace(theirs, vocab_multiple=config.vocab_multiple).padded_vocab_size
    shapes = {
        path: tuple(
            sizes.get(letter, size)
            for letter, size in zip(model.dims[path], model.shapes[path].shape, strict=True)
        )
        for tensor in there
        for path in tensor.paths
    }
    beyond = [name for name in found.extra if not _holds_nothing(name, table)]
    used = [name for name in found.tensors if name in found.expected]
    return Fitting(shapes, grouped(beyond, used, '.', 'tensors'), config, found)


def _is_of(tensor: Tensor, model: Functional) -> bool:
    """Whether its paths are parameters of the model, of the axes that it has."""
    if not all(path in model.dims for path in tensor.paths):
        return False
    letters = sorted(tensor.letters.replace('N', '').replace('1', ''))
    return all(
        letters == sorted(tensor.dims or model.dims[path].lstrip('LI')) for path in tensor.paths
    )


def _is_there(tensor: Tensor, found: Found) -> bool:
    names = [name for name, expected in found.expected.items() if expected is tensor]
    lacking = [name for name in names if name not in found.tensors]
    if lacking and len(lacking) < len(names):
        raise UserError(f'{found.words}: lacks {listed(lacking)}')
    return not lacking


def _holds_nothing(name: str, table: Table) -> bool:
    """Whether a tensor is a buffer, or one that another is tied to."""
    return name in table.copies or bool(table.buffers and re.fullmatch(table.buffers, name))
