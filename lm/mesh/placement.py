"""Where parameters, gradients and optimizer state lie: three trees of shardings from one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding

from lm.errors import UserError
from lm.mesh.mesh import MeshLayout
from lm.mesh.rules import TENSOR
from lm.shapes import Dims

FIELDS = {
    'H': 'model.num_heads',
    'G': 'model.num_kv_heads',
    'F': 'model.d_ff',
    'V': 'the vocabulary padded to model.vocab_multiple',
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
    """

    layout: MeshLayout
    shapes: Mapping[str, Any]
    params: dict[str, NamedSharding]
    gradients: dict[str, NamedSharding]
    updated: dict[str, NamedSharding]
    undivided: tuple[str, ...]

    def state(self, tree: Any) -> Any:
        """Shardings for a tree of optimizer state, by shape: `jax.eval_shape` of its init.

        A leaf below a parameter's path that has the parameter's shape is split as the parameter
        is updated; all else is on every device.
        """
        return jax.tree_util.tree_map_with_path(self._of_leaf, tree)

    def _of_leaf(self, path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [getattr(key, 'key', None) for key in path]
        own = next((name for name in reversed(names) if name in self.shapes), None)
        if own is not None and leaf.shape == self.shapes[own].shape:
            return self.updated[own]
        return self.layout.replicated


def place(layout: MeshLayout, dims: Dims, shapes: Mapping[str, Any]) -> Placement:
    """The placement of a model's state.

    Raises:
      UserError: the axis `tensor` does not divide the heads, the feed-forward width or the
        vocabulary.
    """
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
    )


def _require_tensor_divides(tensor: int, dims: Dims, shapes: Mapping[str, Any]) -> None:
    for path, letters in dims.items():
        for letter, size in zip(letters, shapes[path].shape, strict=True):
            if letter in TENSOR and size % tensor:
                raise UserError(
                    f'mesh.tensor={tensor}: does not divide {FIELDS[letter]}={size}; change one '
                    'of them'
                )
