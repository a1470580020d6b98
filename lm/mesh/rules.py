"""Where each dimension of an array goes: one table, from letters to axes of the mesh.

Weights at rest, what a layer computes with, and activations all follow `dims`; a stage of ZeRO only
says which of parameters, gradients and optimizer state also take the axis `fsdp`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jax.sharding import PartitionSpec

from lm.mesh.axes import ROWS
from lm.shapes import is_matrix

TENSOR = {'H': 'tensor', 'G': 'tensor', 'F': 'tensor', 'V': 'tensor'}
"""Heads, key/value groups, feed-forward width, vocabulary (Shoeybi et al. 2019, section 3)."""
ACTIVATIONS: dict[str, tuple[str, ...] | str] = {**TENSOR, 'B': ROWS, 'T': 'seq'}
FSDP_ORDER = 'DVFPHGKER'
"""Which letter of a weight `fsdp` splits: the first of these that it has and that divides."""


@dataclass(frozen=True)
class Rules:
    """Specs of arrays by their dimension letters.

    Attributes:
      sizes: devices along each axis of the mesh.
    """

    sizes: Mapping[str, int]

    def compute(self, dims: str, shape: tuple[int, ...]) -> PartitionSpec:
        """A weight as a layer multiplies with it: split over `tensor` only."""
        return self._spec(dims, shape, fsdp=False)

    def split(self, dims: str, shape: tuple[int, ...]) -> PartitionSpec:
        """A weight, its gradient or its optimizer state, split over `fsdp` too.

        Only what is a matrix: vectors are small, and each would cost collectives of its own.
        """
        return self._spec(dims, shape, fsdp=is_matrix(dims))

    def activation(self, dims: str, shape: tuple[int, ...]) -> PartitionSpec:
        """Rows over replica and fsdp, positions over seq, wide dimensions over tensor.

        An axis that does not divide its dimension is left out: samples and evaluations have few
        rows.
        """
        return PartitionSpec(
            *(
                self._dividing(ACTIVATIONS.get(letter, ()), size)
                for letter, size in zip(dims, shape, strict=True)
            )
        )

    def undivided(self, dims: str, shape: tuple[int, ...]) -> bool:
        """Whether `fsdp` should split a weight and no dimension of it divides."""
        wanted = is_matrix(dims) and self.sizes['fsdp'] > 1
        return wanted and not any('fsdp' in _axes(entry) for entry in self.split(dims, shape))

    def _spec(self, dims: str, shape: tuple[int, ...], *, fsdp: bool) -> PartitionSpec:
        entries: list[str | tuple[str, ...] | None] = [
            self._dividing(TENSOR.get(letter, ()), size)
            for letter, size in zip(dims, shape, strict=True)
        ]
        place = self._fsdp_place(dims, shape, entries) if fsdp else None
        if place is not None:
            entries[place] = 'fsdp'
        return PartitionSpec(*entries)

    def _fsdp_place(self, dims: str, shape: tuple[int, ...], entries: list) -> int | None:
        if self.sizes['fsdp'] == 1:
            return None
        for letter in FSDP_ORDER:
            for place, (own, size) in enumerate(zip(dims, shape, strict=True)):
                if own == letter and entries[place] is None and size % self.sizes['fsdp'] == 0:
                    return place
        return None

    def _dividing(self, axes: str | tuple[str, ...], size: int) -> str | tuple[str, ...] | None:
        named = tuple(axis for axis in _axes(axes) if self.sizes[axis] > 1)
        if not named or size % math.prod(self.sizes[axis] for axis in named):
            return None
        return named[0] if len(named) == 1 else named


def _axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())
