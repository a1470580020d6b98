"""Which rows of a batch a process makes: those that its devices read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import NamedSharding


@dataclass(frozen=True, eq=False)
class HeldRows:
    """Rows of a batch of which this process holds a part or all.

    Attributes:
      batch_size: rows of all processes together.
      numbers: which ones, rising; the others are never made here.
      first_here: bool, one each: no earlier process holds it too. Every row is so in one process.
    """

    batch_size: int
    numbers: tuple[int, ...]
    first_here: np.ndarray


def held_rows(sharding: NamedSharding, batch_size: int, process: int) -> HeldRows:
    """The rows of arrays [batch_size, T] that lie as `sharding` says which `process` holds."""
    first_holder = np.full(batch_size, -1)
    held = np.zeros(batch_size, bool)
    parts: Any = sharding.devices_indices_map((batch_size, 1))
    for device, (rows, _) in parts.items():
        here = first_holder[rows]  # a view
        here[(here < 0) | (here > device.process_index)] = device.process_index
        held[rows] |= device.process_index == process
    return HeldRows(batch_size, tuple(np.flatnonzero(held).tolist()), first_holder[held] == process)
