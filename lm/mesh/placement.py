"""Where parameters, gradients and optimizer state lie: three trees of shardings from one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding

from lm.errors import UserError
from lm.mesh.host_offload import in_host_memory, require_host_memory
from lm.mesh.mesh import MeshLayout
from lm.mesh.rules import TENSOR
from lm.shapes import Dims

FIELDS = {
    'H': 'model.num_heads',
    'G': 'model.num_kv_heads',
    'F': 'model.d_ff',
    'V': 'the padded vocabulary',
}
"""What sets the size of each dimension that `tensor` splits."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Shardings by the parameters' paths.

    Attributes:
      layout: the mesh and the stage.
      shapes: the parameters'.
      params: as they lie between steps.
      gradients: as they are accumulated.
      updated: as the optimizer reads and writes gradients, its state and parameters.
      undivided: matrices of which no dimension divides by `fsdp`: every device holds them whole.
      offloads: the optimizer's state lies in the host's memory.
    """

    layout: MeshLayout
    shapes: Mapping[str, Any]
    params: dict[str, NamedSharding]
    gradients: dict[str, NamedSharding]
    updated: dict[str, NamedSharding]
    undivided: tuple[str, ...]
    offloads: bool

    def state(self, tree: Any) -> Any:
        """Shardings for a tree of optimizer state, by shape: `jax.eval_shape` of its init.

        A leaf below a parameter's path that has the parameter's shape is split as the parameter
        is updated; all else is on every device. What belongs to a parameter may lie in the host's
        memory; counters stay on the device, which reads them at once.
        """

        def lies(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            own = self.owner(path)
            if own is None:
                return self.layout.replicated
            split = leaf.shape == self.shapes[own].shape
            sharding = self.updated[own] if split else self.layout.replicated
            return in_host_memory(sharding) if self.offloads else sharding

        return jax.tree_util.tree_map_with_path(lies, tree)

    def owner(self, path: tuple[Any, ...]) -> str | None:
        """The parameter that a leaf of optimizer state belongs to, by the leaf's path."""
        names = [getattr(key, 'key', None) for key in path]
        return next((name for name in reversed(names) if name in self.shapes), None)


def place(
    layout: MeshLayout, dims: Dims, shapes: Mapping[str, Any], *, offloads: bool = False
) -> Placement:
    """The placement of a model's state.

    Args:
      layout: the mesh and the stage.
      dims, shapes: of the parameters.
      offloads: the optimizer's state lies in the host's memory.

    Raises:
      UserError: the axis `tensor` does not divide the heads, the feed-forward width or the
        vocabulary, or the devices have no host memory.
    """
    if offloads:
        require_host_memory('mesh.offload=optimizer', layout.mesh.devices.flat[0])
    rules, stage = layout.rules, layout.stage
    _require_tensor_divides(layout.mesh.shape['tensor'], dims, shapes)
    whole = {p: layout.sharding(rules.compute(dims[p], x.shape)) for p, x in shapes.items()}
    split = {p: layout.sharding(rules.split(dims[p], x.shape)) for p, x in shapes.items()}
    return Placement(
        layout,
        shapes,
        params=split if stage >= 3 else whole,
        gradients=split if stage >= 2 else whole,
        updated=split if stage >= 1 else whole,
        undivided=tuple(p for p, x in shapes.items() if rules.undivided(dims[p], x.shape)),
        offloads=offloads,
    )


def _require_tensor_divides(tensor: int, dims: Dims, shapes: Mapping[str, Any]) -> None:
    for path, letters in dims.items():
        for letter, size in zip(letters, shapes[path].shape, strict=True):
            if letter in TENSOR and size % tensor:
                raise UserError(
                    f'mesh.tensor={tensor}: does not divide {FIELDS[letter]}={size}; change one '
                    'of them'
                )
