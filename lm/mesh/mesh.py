"""The device mesh, and where the arrays of a run lie on it."""

from dataclasses import dataclass

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lm.batch import Batch
from lm.config import MeshConfig
from lm.errors import UserError
from lm.layout import Layout
from lm.mesh.host_memory import keep_freed_memory


@dataclass(frozen=True)
class MeshLayout(Layout):
    """A layout on a mesh: batch rows over `replica`, all else on every device."""

    mesh: Mesh

    def constrain(self, x: jax.Array, dims: str) -> jax.Array:
        """Keeps the rows of `x` split where GSPMD might gather them."""
        spec = PartitionSpec(*('replica' if letter == 'B' else None for letter in dims))
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

    @property
    def replicated(self) -> NamedSharding:
        """Every device holds all of an array: parameters and optimizer state under ddp."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def rows(self) -> NamedSharding:
        """The leading axis split over the devices: batches."""
        return NamedSharding(self.mesh, PartitionSpec('replica'))

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
        return batch if self.mesh.size == 1 else jax.device_put(batch, self.rows)


def build(config: MeshConfig, batch_size: int, microbatches: int) -> MeshLayout:
    """The mesh that `config` describes, over the devices there are.

    Raises:
      UserError: more devices asked for than there are, or rows that do not split evenly.
    """
    devices = jax.devices()
    if devices[0].platform == 'cpu':
        keep_freed_memory()
    count = len(devices) if config.replica == -1 else config.replica
    if count > len(devices):
        raise UserError(
            f'mesh.replica={config.replica}: there are {len(devices)} devices; '
            'give at most that, or -1 for all'
        )
    rows = batch_size // microbatches
    if rows % count:
        raise UserError(
            f'train.batch_size={batch_size}: {rows} rows a microbatch do not split evenly over '
            f'{count} devices; make it a multiple of {count * microbatches} or set mesh.replica'
        )
    mesh = jax.make_mesh((count,), ('replica',), (AxisType.Auto,), devices=devices[:count])
    return MeshLayout(mesh)
