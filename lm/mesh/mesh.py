"""The device mesh, and where the arrays of a run lie on it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lm import processes
from lm.attention.kernel import Kernel
from lm.attention.sight import Sight
from lm.batch import Array, Batch
from lm.config import MeshConfig
from lm.errors import UserError
from lm.layout import Layout
from lm.mesh.axes import axis_sizes
from lm.mesh.held_rows import HeldRows, held_rows
from lm.mesh.network import device_grid
from lm.mesh.ring import Block, Ring
from lm.mesh.rules import Rules


@dataclass(frozen=True)
class MeshLayout(Layout):
    """A layout on a mesh with the axes replica, fsdp, tensor and seq.

    ZeRO (Rajbhandari et al. 2020, section 5): the stage says what is split over `fsdp`.

    Attributes:
      mesh: the devices.
      stage: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too.
      ring: self-attention over `seq` goes in a ring; otherwise keys and values are gathered.
      kernel: what computes attention on a device.
    """

    mesh: Mesh
    stage: int
    ring: bool = False
    kernel: Kernel = Kernel()

    @property
    def rules(self) -> Rules:
        """From dimension letters to specs."""
        return Rules(self.mesh.shape)

    @property
    def splits_rows(self) -> bool:  # type: ignore[override]
        """Whether `seq` splits the positions of a row."""
        return self.mesh.shape['seq'] > 1

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

    def apart(
        self, function: Callable[[jax.Array], jax.Array], x: jax.Array, dims: str
    ) -> jax.Array:
        """As the base class, each of the weights whole on one device, for `function` alone.

        They go from being split to lying apart, and back, by an all-to-all each, and a device
        computes on its share of them. The devices that share a weight share the stack, filled up
        with zeros; left to choose, GSPMD would split each product of `function` and gather anew.
        """
        split = self.rules.split(dims, x.shape)
        axes = tuple(axis for axis in ('fsdp', 'tensor') if axis in split)
        if self.stage == 0 or not axes:
            return function(x)
        count, ways = len(x), math.prod(self.mesh.shape[axis] for axis in axes)
        x = jnp.pad(x, [(0, -count % ways)] + [(0, 0)] * (x.ndim - 1))
        # An axis a time, or GSPMD finds no way but to replicate.
        stops = [split]
        for i, axis in enumerate(axes, start=1):
            rest = (None if entry == axis else entry for entry in stops[-1][1:])
            stops.append(PartitionSpec(axes[:i], *rest))
        for spec in stops:
            x = self._placed(x, spec)
        x = function(x)
        for spec in reversed(stops):
            x = self._placed(x, spec)
        return x[:count]

    def seen(
        self, q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: Sight
    ) -> jax.Array:
        """As the base class; in a ring where that is asked for and queries have their own keys."""
        if self.ring and sight.own_keys and self._divides(q_BTHK):
            return self._in_a_ring(q_BTHK, k_BSGK, v_BSGK, sight)
        if self.kernel.name == 'splash' and self.mesh.size > 1:
            from lm.attention import splash

            if splash.serves(sight):
                return self._device_by_device(splash.attend, q_BTHK, k_BSGK, v_BSGK, sight)
        return super().seen(q_BTHK, k_BSGK, v_BSGK, sight)

    def _in_a_ring(
        self, q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: Sight
    ) -> jax.Array:
        ring = Ring(sight.causal, sight.window, sight.scale)
        q_spec, k_spec = self._by_groups(q_BTHK, k_BSGK)
        rows, heads = PartitionSpec(*q_spec[:2]), PartitionSpec(q_spec[2], q_spec[1], None)

        def local(
            q: jax.Array,
            k: jax.Array,
            v: jax.Array,
            segments: jax.Array,
            prefix: jax.Array | None,
            bias: jax.Array | None,
        ) -> jax.Array:
            length = q.shape[1]
            places = jax.lax.axis_index('seq') * length + jnp.arange(length)
            return ring.attend(q, Block(k, v, segments, places, prefix), segments, bias)

        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(q_spec, k_spec, k_spec, rows, rows, heads),
            out_specs=q_spec,
            check_vma=False,
        )(q_BTHK, k_BSGK, v_BSGK, sight.segments_BT, sight.prefix_BS, sight.bias_HTS)

    def _device_by_device(
        self,
        attend: Callable[..., jax.Array],
        q_BTHK: jax.Array,
        k_BTGK: jax.Array,
        v_BTGK: jax.Array,
        sight: Sight,
    ) -> jax.Array:
        """Each device attends by its own rows and heads: GSPMD partitions no Pallas kernel."""
        q_spec, k_spec = self._by_groups(q_BTHK, k_BTGK)

        def local(q: jax.Array, k: jax.Array, v: jax.Array, segments_BT: jax.Array) -> jax.Array:
            return attend(q, k, v, replace(sight, segments_BT=segments_BT, segments_BS=segments_BT))

        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(q_spec, k_spec, k_spec, PartitionSpec(*q_spec[:2])),
            out_specs=q_spec,
            check_vma=False,
        )(q_BTHK, k_BTGK, v_BTGK, sight.segments_BT)

    def _by_groups(
        self, q_BTHK: jax.Array, k_BSGK: jax.Array
    ) -> tuple[PartitionSpec, PartitionSpec]:
        """Where queries and keys go: heads are split only where their groups are."""
        q_spec = self.rules.activation('BTHK', q_BTHK.shape)
        k_spec = self.rules.activation('BTGK', k_BSGK.shape)
        return PartitionSpec(*q_spec[:2], k_spec[2], None), k_spec

    def _divides(self, q_BTHK: jax.Array) -> bool:
        """Whether `seq` splits the positions of a row into two stretches a device."""
        return q_BTHK.shape[1] % (2 * self.mesh.shape['seq']) == 0

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

    def held_rows(self, batch_size: int) -> HeldRows:
        """The rows of a batch that this process makes."""
        shape = (batch_size, 1)
        parts = self.rows(shape).devices_indices_map(shape)
        return held_rows(parts, batch_size, processes.index())

    def place(self, batch: Batch, held: HeldRows | None = None) -> Batch:
        """The host's batch on the devices: the only host-to-device transfer of a step.

        On one device the batch stays as it is, and the compiled step's own call transfers it,
        which takes the host half the time of a transfer by hand.

        Args:
          batch: this process's rows of it.
          held: which ones these are; None: all.
        """
        if self.mesh.size == 1:
            return batch
        if held is None or processes.count() == 1:
            return jax.device_put(batch, jax.tree.map(lambda x: self.rows(x.shape), batch))
        return jax.tree.map(lambda x: self._joined(x, held), batch)

    def _joined(self, x_BT: Array, held: HeldRows) -> jax.Array:
        """One array of what every process holds rows of."""
        shape = (held.batch_size, *x_BT.shape[1:])

        def part(index: Any) -> np.ndarray:
            numbers = range(held.batch_size)[index[0]]
            first = held.numbers.index(numbers[0])
            return np.asarray(x_BT)[first : first + len(numbers), index[1]]

        return jax.make_array_from_callback(shape, self.rows(shape), part)

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
    axes = tuple(sizes)
    if processes.count() > len({device.process_index for device in devices[:used]}):
        raise UserError(
            f'mesh.devices={used}: leaves a process without a device; use all, or start fewer '
            'processes'
        )
    mesh = Mesh(device_grid(sizes, devices[:used]), axes, axis_types=(AxisType.Auto,) * len(axes))
    stage = ('ddp', 'zero1', 'zero2', 'zero3').index(config.strategy)
    if config.context == 'ring' and sizes['seq'] == 1:
        raise UserError('mesh.context=ring: goes over mesh.seq, which has one device; raise it')
    return MeshLayout(mesh, stage, config.context == 'ring')
