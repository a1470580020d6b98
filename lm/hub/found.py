"""Which tensors of some files a table names, and whether they are what it says."""

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lm.config import ModelConfig
from lm.errors import UserError
from lm.hub.safetensors_reader import DTYPES, Stored
from lm.hub.table import Table, Tensor, layer_numbers, letter_sizes
from lm.models.functional import functional
from lm.precision.policy import POLICIES

_SHOWN = 3
_CHUNK = 1 << 18  # entries of a tensor that is only looked at, read at once


@dataclass(frozen=True)
class Found:
    """The tensors of some files under the names of a table.

    Attributes:
      config: of the model that the table is of.
      table: its tensors.
      words: what to call the files in an error.
      sizes: of the model's letters.
      expected: each name that the table has, with what it says of it.
      tensors: what is there, by the names of today.
    """

    config: ModelConfig
    table: Table
    words: str
    sizes: Mapping[str, int]
    expected: Mapping[str, Tensor]
    tensors: Mapping[str, Stored]

    @classmethod
    def among(
        cls, config: ModelConfig, table: Table, files: Mapping[str, Stored], words: str
    ) -> 'Found':
        """Those of `files`, of which none need be there.

        Args:
          config: the model's shape.
          table: its tensors.
          files: tensors by their names in the files.
          words: what to call the files in an error.

        Raises:
          UserError: one is there under an old name and its new one, or there are more layers than
            tensors.
        """
        if config.num_layers > len(files):
            raise UserError(
                f'{words}: holds {len(files)} tensors, too few for {config.num_layers} layers'
            )
        model = functional(config, POLICIES['fp32'])
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
        return cls(config, table, words, letter_sizes(model), expected, found)

    @property
    def extra(self) -> list[str]:
        """What is there and no parameter of the table's."""
        zeros = {tensor.name for tensor in self.table.zeros}
        return [name for name in self.tensors if name not in self.expected and name not in zeros]

    def verify(self, by: str) -> None:
        """Refuses tensors of another shape, of a dtype that is not read, untied or not zero.

        Args:
          by: what the shapes follow from, for the error.

        Raises:
          UserError: there is one.
        """
        config, found, words = self.config, self.tensors, self.words
        zeros = {tensor.name: tensor for tensor in self.table.zeros}
        for name, tensor in ({**self.expected} | zeros).items():
            if name not in found:
                continue
            stored, shape = found[name], tensor.shape(self.sizes)
            if stored.shape != shape:
                raise UserError(f'{words}: {name} is {list(stored.shape)}, by {by} {list(shape)}')
            if stored.format not in DTYPES:
                raise UserError(
                    f'{words}: {name} is of dtype {stored.format}, only {", ".join(DTYPES)} are '
                    'supported'
                )
        for name, original in self.table.copies.items():
            if name in found and original in found and not _equal(found[name], found[original]):
                raise UserError(
                    f'{words}: {name} differs from {original}, to which {config.name} ties it'
                )
        for name in zeros:
            if name in found and not _is_zero(found[name]):
                raise UserError(f'{words}: {name} is not zero, and {config.name} here has none')


def _name_of_today(name: str, table: Table, expected: Mapping[str, Tensor]) -> str:
    """A name of a file as the table has it."""
    for old, new in table.renamed:
        name = re.sub(old, new, name)
    longer = table.prefix + name
    if name not in expected and (longer in expected or is_accounted(longer, table)):
        return longer
    return name


def is_accounted(name: str, table: Table) -> bool:
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


def grouped(
    names: Iterable[str], others: Collection[str], separator: str = '/', kind: str = 'parameters'
) -> list[str]:
    """Names in few words: `head/* (4 parameters)` where no other name begins with `head/`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(separator)
        heads = (separator.join(parts[:i]) + separator for i in range(1, len(parts)))
        free = (head for head in heads if not any(other.startswith(head) for other in others))
        groups.setdefault(next(free, name), []).append(name)
    return [
        members[0] if len(members) == 1 else f'{head}* ({len(members)} {kind})'
        for head, members in groups.items()
    ]


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
