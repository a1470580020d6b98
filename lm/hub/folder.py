"""A Hugging Face folder, opened: its converter, its model's shape, its tensors checked."""

import dataclasses
import gc
import math
import mmap
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm import registry
from lm.config import ModelConfig
from lm.errors import UserError
from lm.hub.foreign_config import ForeignConfig
from lm.hub.safetensors_reader import DTYPES, Stored, stored_tensors
from lm.hub.table import Table, Tensor, layer_numbers, letter_sizes
from lm.models.functional import Functional, functional
from lm.precision.policy import POLICIES
from lm.shapes import Params

_SHOWN = 3
_CHUNK = 1 << 18  # entries of a tensor that is only looked at, read at once


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
        return {path: params[path] for path in model.shapes}

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
    # Not padded: the logits have the shape that the foreign model gives.
    try:
        config = dataclasses.replace(known[kind].read_config(foreign, files), vocab_multiple=1)
        foreign.close()
        table = known[kind].table(config)
        return checked(config, table, files, str(folder))
    except UserError as error:
        # What a model's own fields refuse is told with the file that they come from.
        inside = str(error).startswith(str(folder))
        raise error if inside else UserError(f'{foreign.path}: {error}') from error


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
    if config.num_layers > len(files):
        raise UserError(
            f'{words}: holds {len(files)} tensors, too few for {config.num_layers} layers'
        )
    model = functional(config, POLICIES['fp32'])
    sizes = letter_sizes(model)
    expected = {
        tensor.name.format(i): tensor
        for tensor in table.tensors
        for i in layer_numbers(model.dims[tensor.paths[0]], config.num_layers) or [None]
    }
    found: dict[str, Stored] = {}
    for old, stored in files.items():
        name = _name_of_today(old, table, expected)
        if name in found:
            raise UserError(f'{words}: holds {name} twice, once as {old}')
        found[name] = stored
    for name, tensor in expected.items():
        if name not in found and tensor.instead in found:
            found[name] = found[tensor.instead]
            print(f'note: {name} begins as a copy of {tensor.instead}', file=sys.stderr)
    zeros = {tensor.name: tensor for tensor in table.zeros if tensor.name in found}
    missing = [name for name in expected if name not in found]
    if missing:
        raise UserError(f'{words}: lacks {_listed(missing)}')
    extra = [name for name in found if name not in expected and name not in zeros]
    unknown = [name for name in extra if not _accounted(name, table)]
    if unknown:
        raise UserError(
            f'{words}: {_listed(unknown)} unexpected: {config.name} of this config.json has no '
            'such tensor'
        )
    for name, tensor in (expected | zeros).items():
        stored, shape = found[name], tensor.shape(sizes)
        if stored.shape != shape:
            raise UserError(
                f'{words}: {name} is {list(stored.shape)}, by config.json {list(shape)}'
            )
        if stored.format not in DTYPES:
            raise UserError(
                f'{words}: {name} is of dtype {stored.format}, only {", ".join(DTYPES)} are '
                'supported'
            )
    for name, original in table.copies.items():
        if name in found and not _equal(found[name], found[original]):
            raise UserError(
                f'{words}: {name} differs from {original}, to which {config.name} ties it'
            )
    for name in zeros:
        if not _is_zero(found[name]):
            raise UserError(f'{words}: {name} is not zero, and {config.name} here has none')
    for pattern, why in table.left_out.items():
        gone = [name for name in extra if re.fullmatch(pattern, name)]
        if gone:
            print(f'note: left out {_listed(gone)}: {why}', file=sys.stderr)
    return Weights(config, table, {name: found[name] for name in expected})


def _name_of_today(name: str, table: Table, expected: Mapping[str, Tensor]) -> str:
    """A name of a file as the table has it."""
    for old, new in table.renamed:
        name = re.sub(old, new, name)
    longer = table.prefix + name
    if name not in expected and (longer in expected or _accounted(longer, table)):
        return longer
    return name


def _accounted(name: str, table: Table) -> bool:
    """Whether a tensor that is no parameter of ours may be there."""
    patterns = [*table.left_out, *([table.buffers] if table.buffers else [])]
    return name in table.copies or any(re.fullmatch(pattern, name) for pattern in patterns)


def _is_zero(stored: Stored) -> bool:
    total = int(np.prod(stored.shape))
    return not any(np.any(stored.read(i, min(i + _CHUNK, total))) for i in range(0, total, _CHUNK))


def _equal(a: Stored, b: Stored) -> bool:
    if a.shape != b.shape or a.format != b.format:
        return False
    total = int(np.prod(a.shape))
    return all(
        np.array_equal(
            a.read(i, min(i + _CHUNK, total)).view(np.uint8),
            b.read(i, min(i + _CHUNK, total)).view(np.uint8),
        )
        for i in range(0, total, _CHUNK)
    )


def _listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
