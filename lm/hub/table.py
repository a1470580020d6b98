"""How a foreign checkpoint's tensors stand for our parameters.

A foreign tensor's axes are written in the letters of `lm.shapes`, those that it joins into one in
brackets: `(HK)D` is a PyTorch Linear's weight from D to heads. More letters:

N: several parameters of one shape in one tensor, as GPT-2's query, key and value in `D(NHK)`.
E: D once more, where a parameter has it twice.
1: an axis of one entry.
C, J: K as 2 x K/2, for rotations that pair neighbours (2i, 2i + 1) where ours pairs halves.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lm.hub.safetensors_reader import Stored
from lm.models.functional import Functional

_CHUNK = 1 << 18
"""Entries of a foreign tensor that are read at once, where its first axis lets itself be cut."""


@dataclass(frozen=True)
class Tensor:
    """One foreign tensor, or with `{}` in its name one for each layer.

    Attributes:
      name: in the foreign file; `{}` is the layer's number.
      axes: its axes, as this module's docstring says.
      paths: the parameters it holds; several only with N among the axes, none of zeros.
      dims: letters of the parameters' axes where they are not the parameters' own (E, C, J; G
        for H, where there are as many).
      instead: a tensor of the same shape that is read where a file lacks this one.
    """

    name: str
    axes: str
    paths: tuple[str, ...]
    dims: str = ''
    instead: str = ''

    @property
    def letters(self) -> str:
        """Its axes with none joined."""
        return self.axes.replace('(', '').replace(')', '')

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape; `sizes` gives each letter's."""
        groups = re.findall(r'\((\w+)\)|(\w)', self.axes)
        return tuple(
            math.prod(self._size(letter, sizes) for letter in joined or single)
            for joined, single in groups
        )

    def _size(self, letter: str, sizes: Mapping[str, int]) -> int:
        return len(self.paths) if letter == 'N' else sizes[letter]

    def fill(
        self, parameter: np.ndarray, path: str, stored: Stored, dims: str, sizes: Mapping[str, int]
    ) -> None:
        """Writes what `stored` holds of one parameter (of one layer) into `parameter`.

        Args:
          parameter: the array to be filled, without L; rows that pad the vocabulary stay.
          path: which of `paths` it is.
          stored: the foreign tensor.
          dims: the parameter's own letters, without L.
          sizes: of the letters; V is the vocabulary without padding.
        """
        dims = self.dims or dims
        if 'V' in dims:
            parameter = parameter[tuple(slice(sizes[c]) if c == 'V' else slice(None) for c in dims)]
        parameter = parameter.reshape([sizes[letter] for letter in dims])
        outer, inner = self.letters[0], self.letters[1:]
        lengths = [self._size(letter, sizes) for letter in inner]
        row, rows = math.prod(lengths), self._size(outer, sizes)
        step, begin = max(1, _CHUNK // max(row, 1)), 0
        if outer == 'N':
            begin, step, rows = self.paths.index(path), 1, self.paths.index(path) + 1
        for first in range(begin, rows, step):
            stop = min(first + step, rows)
            block = stored.read(first * row, stop * row).reshape(stop - first, *lengths)
            if 'N' in self.letters:
                place = 0 if outer == 'N' else self.paths.index(path)
                block = block.take(place, axis=self.letters.index('N'))
            kept = self.letters.replace('N', '')
            where = tuple(slice(first, stop) if c == outer else slice(None) for c in dims)
            parameter[where] = block.transpose([kept.index(letter) for letter in dims])

    def joined(
        self, parameters: list[np.ndarray], dims: str, sizes: Mapping[str, int]
    ) -> np.ndarray:
        """The foreign tensor of the parameters (of one layer) at `paths`, in their order."""
        dims, kept = self.dims or dims, self.letters.replace('N', '')
        parts = []
        for parameter in parameters:
            if 'V' in dims:
                cut = tuple(slice(sizes[c]) if c == 'V' else slice(None) for c in dims)
                parameter = parameter[cut]
            split = parameter.reshape([sizes[letter] for letter in dims])
            parts.append(split.transpose([dims.index(letter) for letter in kept]))
        whole = np.stack(parts, axis=self.letters.index('N')) if 'N' in self.letters else parts[0]
        return whole.reshape(self.shape(sizes))


@dataclass(frozen=True)
class Table:
    """All tensors of an architecture's foreign checkpoints, and what else may lie beside them.

    Attributes:
      tensors: every parameter is in one of them.
      prefix: may be missing from all names of a file (a model saved without its head).
      renamed: patterns of old names and what they are called now.
      copies: tied tensors that a file may hold twice, by name; each must equal the tensor named.
      buffers: a pattern of tensors that hold no parameters (masks, frequencies).
      left_out: patterns of parameters that our model does not have, and why; told of.
      zeros: tensors of no parameters, which add nothing while they are all zeros: they may be
        missing, must be zero where they are there, and are written.
    """

    tensors: tuple[Tensor, ...]
    prefix: str = ''
    renamed: tuple[tuple[str, str], ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    buffers: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    zeros: tuple[Tensor, ...] = ()


def layer_numbers(dims: str, layers: int) -> range | None:
    """The layers that a parameter of letters `dims` holds, of so many; None: it is of none."""
    return {'L': range(layers), 'I': range(1, layers)}.get(dims[0])


def letter_sizes(functional: Functional) -> dict[str, int]:
    """The size of each letter; V without padding."""
    sizes: dict[str, int] = {}
    for path, dims in functional.dims.items():
        sizes.update(zip(dims, functional.shapes[path].shape, strict=True))
    sizes['V'] = functional.config.tokens
    head_width = functional.config.head_width
    return {**sizes, '1': 1, 'E': sizes['D'], 'C': 2, 'J': head_width // 2}
