"""Which rows of a batch a process makes: those that its devices read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


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


def held_rows(
    parts: Mapping[Any, tuple[slice, ...] | None], batch_size: int, process: int
) -> HeldRows:
    """The rows that a process holds.

    Args:
      parts: which rows (and positions) each device holds of an array [batch_size, T].
      batch_size: rows of all processes together.
      process: which one.
    """
    first_holder = np.full(batch_size, -1)
    held = np.zeros(batch_size, bool)
    for device, part in parts.items():
        rows = slice(None) if part is None else part[0]
        here = first_holder[rows]  # a view
        here[(here < 0) | (here > device.process_index)] = device.process_index
        held[rows] |= device.process_index == process
    return HeldRows(batch_size, tuple(np.flatnonzero(held).tolist()), first_holder[held] == process)
