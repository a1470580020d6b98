"""A Hugging Face folder, opened: its converter, its model's shape, its tensors checked."""

import contextlib
import dataclasses
import gc
import math
import mmap
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lm import registry
from lm.config import ModelConfig
from lm.errors import UserError
from lm.hub.foreign_config import NAME, ForeignConfig
from lm.hub.found import Found, is_accounted, listed
from lm.hub.safetensors_reader import Stored, stored_tensors
from lm.hub.table import Table, Tensor, layer_numbers, letter_sizes
from lm.models.functional import Functional, functional
from lm.precision.policy import POLICIES
from lm.shapes import Params


def converters() -> dict[str, Any]:
    """Every converter by the name of its architecture."""
    return {
        name: registry.lookup('converters', name, 'model.name')
        for name in registry.names('converters')
    }


@dataclass(frozen=True)
class Weights:
    """Foreign tensors that make a model.

    Attributes:
      config: the model's shape.
      table: how they stand for its parameters.
      tensors: each by its name in the table.
    """

    config: ModelConfig
    table: Table
    tensors: Mapping[str, Stored]

    def params(self, shardings: Mapping[str, jax.sharding.Sharding] | None = None) -> Params:
        """The parameters, each in the dtype it is stored in, placed as `shardings` says.

        Read one parameter after another: besides what is placed already, the host holds one of
        them (all of its layers) and a few megabytes.

        Args:
          shardings: by path; None places all on the first device.
        """
        model = functional(self.config, POLICIES['fp32'])
        sizes = letter_sizes(model)
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        params: Params = {}
        for tensor, path in _parameters(self.table):
            array = self._read(tensor, path, model, sizes)
            sharding = here if shardings is None else shardings[path]
            params[path] = jax.block_until_ready(jax.device_put(array, sharding))
            # JAX lets go of the host's copy when the garbage collector runs: before the next one
            # is made.
            del array
            gc.collect(0)
        return {path: params[path] for path in model.shapes if path in params}

    def _read(
        self, tensor: Tensor, path: str, model: Functional, sizes: Mapping[str, int]
    ) -> np.ndarray:
        """One parameter, all of its layers."""
        dims = model.dims[path]
        layers = layer_numbers(dims, self.config.num_layers)
        names = [tensor.name] if layers is None else [tensor.name.format(i) for i in layers]
        stored = [self.tensors[name] for name in names]
        dtype = jnp.result_type(*(s.dtype for s in stored))
        array = _host_zeros(model.shapes[path].shape, dtype)
        for index, one in enumerate(stored):
            target, own = (array, dims) if layers is None else (array[index], dims[1:])
            tensor.fill(target, path, one, own, sizes)
        return array


def _host_zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros in a memory mapping of their own.

    Freed, it goes back to the system, where the heap would keep it; and the CPU backend takes a
    mapping over as it is, without a copy.
    """
    count = math.prod(shape)
    mapping = mmap.mmap(-1, max(1, count * dtype.itemsize))
    return np.frombuffer(mapping, dtype, count).reshape(shape)


def _parameters(table: Table) -> Iterator[tuple[Tensor, str]]:
    for tensor in table.tensors:
        for path in tensor.paths:
            yield tensor, path


def open_folder(folder: Path) -> Weights:
    """The model in a Hugging Face folder; nothing large is read yet.

    What a checkpoint has beyond our model (BERT's pooler) is told on stderr.

    Raises:
      UserError: files that are missing, broken or cut short; an architecture, an option or a dtype
        that is not supported; a tensor that is missing, unexpected, of another shape, or not equal
        to the one it is tied to.
    """
    foreign = read_model(folder)
    with told_of(folder):
        table = foreign.converter.table(foreign.config)
        return checked(foreign.config, table, foreign.files, str(folder))


class ForeignModel(NamedTuple):
    """What a Hugging Face folder says of its model.

    Attributes:
      config: its shape; the vocabulary is not padded, so logits have the foreign shape.
      converter: the member that knows its architecture.
      files: its tensors, by their names there.
    """

    config: ModelConfig
    converter: Any
    files: Mapping[str, Stored]


def read_model(folder: Path) -> ForeignModel:
    """The `config.json` of a folder, understood, and the headers of its files.

    Raises:
      UserError: as `open_folder`, but for what is wrong with single tensors.
    """
    if not folder.is_dir():
        raise UserError(f'{folder}: is no folder')
    foreign = ForeignConfig.read(folder)
    kind = foreign.model_type
    known = {t: member for member in converters().values() for t in member.MODEL_TYPES}
    if kind not in known:
        raise UserError(
            f'{foreign.path}: model_type={kind!r} is not supported, only {", ".join(sorted(known))}'
        )
    files = stored_tensors(folder)
    with told_of(folder):
        config = dataclasses.replace(known[kind].read_config(foreign, files), vocab_multiple=1)
        foreign.close()
    return ForeignModel(config, known[kind], files)


@contextlib.contextmanager
def told_of(folder: Path) -> Iterator[None]:
    """Lets what a model's own fields refuse name the file that they come from."""
    try:
        yield
    except UserError as error:
        inside = str(error).startswith(str(folder))
        raise error if inside else UserError(f'{folder / NAME}: {error}') from error


def checked(config: ModelConfig, table: Table, files: Mapping[str, Stored], words: str) -> Weights:
    """The tensors of `files` under the table's names, every one accounted for.

    Args:
      config: the model's shape.
      table: its tensors.
      files: tensors by their names in the files.
      words: what to call the checkpoint in an error.

    Raises:
      UserError: as `open_folder`.
    """
    found = Found.among(config, table, files, words)
    missing = [name for name in found.expected if name not in found.tensors]
    if missing:
        raise UserError(f'{words}: lacks {listed(missing)}')
    unknown = [name for name in found.extra if not is_accounted(name, table)]
    if unknown:
        raise UserError(
            f'{words}: {listed(unknown)} unexpected: {config.name} of this config.json has no '
            'such tensor'
        )
    found.verify('config.json')
    for pattern, why in table.left_out.items():
        gone = [name for name in found.extra if re.fullmatch(pattern, name)]
        if gone:
            print(f'note: left out {listed(gone)}: {why}', file=sys.stderr)
    return Weights(config, table, {name: found.tensors[name] for name in found.expected})
