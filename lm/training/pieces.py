"""The pieces that a mesh cuts an array into, and which devices hold each."""

from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding


@dataclass(frozen=True)
class Pieces:
    """A grid of pieces: what is cut into most of them goes across.

    Attributes:
      down, across: how many.
      holders: (row, column) -> the devices that hold the piece, in the order of their numbers.
    """

    down: int
    across: int
    holders: dict[tuple[int, int], tuple[int, ...]]

    @property
    def count(self) -> int:
        """Of all pieces."""
        return self.down * self.across


def pieces(array: jax.ShapeDtypeStruct) -> Pieces:
    """How the devices of a mesh share an array, of which they split at most two dimensions.

    Devices are numbered from 0 in the order of their ids.
    """
    sharding = array.sharding
    assert isinstance(sharding, NamedSharding)
    held: dict[Any, Any] = dict(sharding.devices_indices_map(array.shape))
    starts = [
        tuple(part.start or 0 for part in held[device])
        for device in sorted(held, key=lambda device: device.id)
    ]
    places = [sorted(set(column)) for column in zip(*starts, strict=True)]
    cut = [dim for dim, found in enumerate(places) if len(found) > 1]
    assert len(cut) <= 2, f'{sharding.spec} splits more than two dimensions'
    cut.sort(key=lambda dim: len(places[dim]))
    holders: dict[tuple[int, int], tuple[int, ...]] = {}
    for number, start in enumerate(starts):
        # What is not cut is one row, or one column.
        row, column = [0, 0, *(places[dim].index(start[dim]) for dim in cut)][-2:]
        holders[row, column] = (*holders.get((row, column), ()), number)
    down, across = [1, 1, *(len(places[dim]) for dim in cut)][-2:]
    return Pieces(down, across, holders)


def device_words(numbers: tuple[int, ...]) -> str:
    """`0, 4` or `0-3, 8`: runs of three or more are drawn together."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f'{run[0]}-{run[-1]}' if len(run) > 2 else ', '.join(map(str, run)) for run in runs]
    return ', '.join(words)
