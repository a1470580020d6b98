"""The device mesh, and where the arrays of a run lie on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lm.batch import Batch
from lm.config import MeshConfig
from lm.errors import UserError
from lm.layout import Layout
from lm.mesh.axes import axis_sizes
from lm.mesh.host_memory import keep_freed_memory
from lm.mesh.rules import Rules


@dataclass(frozen=True)
class MeshLayout(Layout):
    """A layout on a mesh with the axes replica, fsdp, tensor and seq.

    ZeRO (Rajbhandari et al. 2020, section 5): the stage says what is split over `fsdp`.

    Attributes:
      mesh: the devices.
      stage: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too.
    """

    mesh: Mesh
    stage: int

    @property
    def rules(self) -> Rules:
        """From dimension letters to specs."""
        return Rules(self.mesh.shape)

    @property
    def gathers_weights(self) -> bool:  # type: ignore[override]
        """Whether layers gather their weights, or split the weights' gradients."""
        return self.stage >= 2 and self.mesh.shape['fsdp'] > 1

    def constrain(self, x: jax.Array, dims: str) -> jax.Array:
        """`x` placed by its letters, where GSPMD might choose otherwise."""
        return self._placed(x, self.rules.activation(dims, x.shape))

    def weight(self, x: jax.Array, dims: str, *, looked_up: bool = False) -> jax.Array:
        """Gathered over `fsdp` where it is split; a table that is looked up, over `tensor` too.

        The gradient is split at once, layer by layer, where the stage splits it. A constraint alone
        would give it the weight's own placement, and with it the whole of it to every device.
        """
        rules = self.rules
        compute = PartitionSpec() if looked_up else rules.compute(dims, x.shape)
        kept = rules.split(dims, x.shape) if self.stage >= 2 else rules.compute(dims, x.shape)
        if self.mesh.size == 1 or (self.stage < 2 and not looked_up):
            return x
        return _gathered(x, NamedSharding(self.mesh, compute), NamedSharding(self.mesh, kept))

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """`spec` on this mesh."""
        return NamedSharding(self.mesh, spec)

    @property
    def replicated(self) -> NamedSharding:
        """Every device holds all of an array."""
        return NamedSharding(self.mesh, PartitionSpec())

    def rows(self, shape: tuple[int, ...]) -> NamedSharding:
        """An array [B, T] of a batch: rows over replica and fsdp, positions over seq."""
        return NamedSharding(self.mesh, self.rules.activation('BT', shape))

    @property
    def blocks_each_step(self) -> bool:
        """Whether each step must be waited for.

        XLA's CPU client runs collectives of several emulated devices on one thread pool; steps
        dispatched ahead of each other can starve it and abort the process.
        """
        return self.mesh.devices.flat[0].platform == 'cpu' and self.mesh.size > 1

    def place(self, batch: Batch) -> Batch:
        """The host's batch on the devices: the only host-to-device transfer of a step.

        On one device the batch stays as it is, and the compiled step's own call transfers it,
        which takes the host half the time of a transfer by hand.
        """
        if self.mesh.size == 1:
            return batch
        return jax.tree.map(lambda x: jax.device_put(x, self.rows(x.shape)), batch)

    def _placed(self, x: jax.Array, spec: PartitionSpec) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(x: jax.Array, compute: NamedSharding, kept: NamedSharding) -> jax.Array:
    del kept
    return jax.lax.with_sharding_constraint(x, compute)


def _forward(x: jax.Array, compute: NamedSharding, kept: NamedSharding) -> tuple[jax.Array, None]:
    return _gathered(x, compute, kept), None


def _backward(
    compute: NamedSharding, kept: NamedSharding, _: None, gradient: jax.Array
) -> tuple[jax.Array]:
    if not any(compute.spec):
        # Of a table: left to choose, GSPMD would move every position's gradient to where its part
        # of the table is kept, which for some meshes it can only by replicating them all.
        gradient = jax.lax.with_sharding_constraint(gradient, compute)
    return (jax.lax.with_sharding_constraint(gradient, kept),)


_gathered.defvjp(_forward, _backward)


def build(
    config: MeshConfig,
    batch_size: int,
    microbatches: int,
    devices: Sequence[jax.Device] | None = None,
) -> MeshLayout:
    """The mesh that `config` describes, over the devices there are.

    Args:
      config: the strategy and the axes.
      batch_size, microbatches: what the axes must divide.
      devices: those there are; they may be described ones. None: `jax.devices()`.

    Raises:
      UserError: axes that do not multiply to the devices, or rows that do not split evenly.
    """
    devices = jax.devices() if devices is None else list(devices)
    if devices[0].platform == 'cpu':
        keep_freed_memory()
    sizes = axis_sizes(config, len(devices))
    count = sizes['replica'] * sizes['fsdp']
    rows = batch_size // microbatches
    if rows % count:
        raise UserError(
            f'train.batch_size={batch_size}: {rows} rows a microbatch do not split evenly over '
            f'{count} devices (mesh.replica x mesh.fsdp); make it a multiple of '
            f'{count * microbatches} or change the mesh'
        )
    used = count * sizes['tensor'] * sizes['seq']
    mesh = _mesh(sizes, devices[:used])
    return MeshLayout(mesh, stage=('ddp', 'zero1', 'zero2', 'zero3').index(config.strategy))


def _mesh(sizes: dict[str, int], devices: list[jax.Device]) -> Mesh:
    """The mesh on the devices' own network, neighbours beside each other."""
    shape, axes, kinds = tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes)
    try:
        return jax.make_mesh(shape, axes, kinds, devices=devices)
    except NotImplementedError:  # an axis is no product of the torus's own: parts of them, then
        laid = create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(laid, axes, axis_types=kinds)
