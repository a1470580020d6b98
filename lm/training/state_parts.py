"""What a device holds of the state: each parameter, its gradient, and its optimizer state."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from lm.mesh.host_offload import is_in_host_memory
from lm.training.program import Program

PARTS = ('parameters', 'gradients', 'optimizer state')


@dataclass(frozen=True)
class Share:
    """Arrays that belong together, such as the optimizer's two of a parameter.

    Attributes:
      arrays: shapes, dtypes and shardings.
    """

    arrays: tuple[jax.ShapeDtypeStruct, ...]

    @property
    def whole_bytes(self) -> int:
        """Of all of it, as one device alone would hold it."""
        return sum(_bytes(x.shape, x.dtype) for x in self.arrays)

    @property
    def device_bytes(self) -> int:
        """In the memory of each device: shards of an array are of one size."""
        return sum(_shard_bytes(x) for x in self.arrays if not is_in_host_memory(x))

    @property
    def host_bytes(self) -> int:
        """In the memory of the host, for each device."""
        return sum(_shard_bytes(x) for x in self.arrays if is_in_host_memory(x))


@dataclass(frozen=True)
class StateParts:
    """The state of a run, and the gradients of a step, with no memory of either.

    Attributes:
      by_path: part -> parameter's path -> its share, in the order of the model's paths.
      counters: what belongs to no parameter: the step, and what an optimizer counts.
    """

    by_path: dict[str, dict[str, Share]]
    counters: Share

    def of(self, part: str) -> Share:
        """All of a part."""
        return _joined(self.by_path[part].values())

    @property
    def all(self) -> Share:
        """All parts, and the counters."""
        return _joined([*map(self.of, PARTS), self.counters])


def state_parts(program: Program) -> StateParts:
    """The parts of a program's state; nothing is allocated."""
    placement = program.placement
    state: Any = program.abstract_state
    kept: dict[str, list[jax.ShapeDtypeStruct]] = {path: [] for path in placement.shapes}
    counters = [state.step]
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        owner = placement.owner(keys)
        (counters if owner is None else kept[owner]).append(leaf)
    gradients = {
        path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement.gradients[path])
        for path, x in state.params.items()
    }
    by_path = {
        'parameters': {path: Share((state.params[path],)) for path in kept},
        'gradients': {path: Share((gradients[path],)) for path in kept},
        'optimizer state': {path: Share(tuple(leaves)) for path, leaves in kept.items()},
    }
    return StateParts(by_path, Share(tuple(counters)))


def split_words(dims: str, sharding: NamedSharding) -> str:
    """`F over tensor, D over fsdp`, or `whole`."""
    words = [
        f'{letter} over {axes if isinstance(axes, str) else " and ".join(axes)}'
        for letter, axes in zip(dims, sharding.spec, strict=False)
        if axes
    ]
    return ', '.join(words) or 'whole'


def bytes_words(size: int) -> str:
    """`512 B`, `16.4 kB`, `1.05 GB`: powers of 1000, three digits."""
    value, unit = float(size), 'B'
    for larger in ('kB', 'MB', 'GB', 'TB'):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f'{value:.3g} {unit}'


def _joined(shares: Iterable[Share]) -> Share:
    return Share(tuple(x for share in shares for x in share.arrays))


def _shard_bytes(x: jax.ShapeDtypeStruct) -> int:
    return _bytes(x.sharding.shard_shape(x.shape), x.dtype)


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
