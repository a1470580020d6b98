"""The layout inside `shard_map`: collectives written out, where GSPMD would put them in by itself.

Parameters come as the shards that a device keeps. A layer's weight is gathered when it is used;
the transpose of that gather is the reduce-scatter of its gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import PartitionSpec

from lm.attention.kernel import Kernel
from lm.errors import UserError
from lm.layout import Layout
from lm.mesh.mesh import MeshLayout
from lm.mesh.rules import Rules
from lm.shapes import Dims


@dataclass(frozen=True, eq=False)
class ExplicitLayout(Layout):
    """One device's side of a mesh whose axes are replica and fsdp.

    Attributes:
      rules: from dimension letters to specs.
      sizes: of each letter, in the whole model.
      split_params: parameters come split over fsdp, and are gathered (zero3).
      kernel: what computes attention.
    """

    rules: Rules
    sizes: Mapping[str, int]
    split_params: bool
    kernel: Kernel = Kernel()

    @property
    def gathers_weights(self) -> bool:  # type: ignore[override]
        """Whether layers gather their weights."""
        return self.split_params

    def weight(self, x: jax.Array, dims: str, *, looked_up: bool = False) -> jax.Array:
        """The whole of a weight of which `x` is this device's part."""
        del looked_up
        if not self.split_params:
            return x
        shape = tuple(self.sizes[letter] for letter in dims)
        return gathered(x, self.rules.split(dims, shape))


def explicit_layout(layout: MeshLayout, dims: Dims, shapes: Mapping[str, Any]) -> ExplicitLayout:
    """What the model sees inside `shard_map` on a mesh.

    Raises:
      UserError: a strategy or an axis that is not written out.
    """
    sizes = layout.mesh.shape
    for axis in ('tensor', 'seq'):
        if sizes[axis] > 1:
            raise UserError(
                f'mesh.{axis}={sizes[axis]}: mesh.collectives=explicit has replica and fsdp only'
            )
    if layout.stage < 2:
        raise UserError(
            'mesh.collectives=explicit: is for mesh.strategy=zero2 and zero3; give one of them, or '
            'auto'
        )
    sizes_of = letter_sizes(dims, shapes)
    return ExplicitLayout(layout.rules, sizes_of, layout.stage == 3, layout.kernel)


def letter_sizes(dims: Dims, shapes: Mapping[str, Any]) -> dict[str, int]:
    """The size of each letter; in one model a letter has one."""
    return {
        letter: size
        for path, letters in dims.items()
        for letter, size in zip(letters, shapes[path].shape, strict=True)
    }


def split_axis(spec: PartitionSpec) -> int | None:
    """Which axis of an array `fsdp` splits."""
    return next((axis for axis, entry in enumerate(spec) if entry == 'fsdp'), None)


def gathered(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """The whole array, from every device's part."""
    axis = split_axis(spec)
    return x if axis is None else jax.lax.all_gather(x, 'fsdp', axis=axis, tiled=True)


def scattered(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """This device's part of the sum over fsdp; of an array that is not split, the whole sum."""
    axis = split_axis(spec)
    if axis is None:
        return jax.lax.psum(x, 'fsdp')
    return jax.lax.psum_scatter(x, 'fsdp', scatter_dimension=axis, tiled=True)


def own_part(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """This device's part of an array that it holds whole."""
    axis = split_axis(spec)
    if axis is None:
        return x
    size = x.shape[axis] // jax.lax.axis_size('fsdp')
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index('fsdp') * size, size, axis)
