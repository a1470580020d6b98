"""Memory of the host, as an accelerator reaches it: where optimizer state can lie between updates.

ZeRO-Offload (Ren et al. 2021, section 4) keeps the optimizer's state there and updates it there;
here it is updated on the device, which the state passes through a layer at a time.
"""

from typing import Any

import jax
from jax.sharding import NamedSharding

from lm.errors import UserError

HOST = 'pinned_host'
"""JAX's name of host memory that a device copies from by itself."""


def in_host_memory(sharding: NamedSharding) -> NamedSharding:
    """The same parts, each in the memory of its device's host."""
    return sharding.with_memory_kind(HOST)


def is_in_host_memory(x: Any) -> bool:
    """Whether an array, or the description of one, lies there."""
    sharding = getattr(x, 'sharding', None)
    return sharding is not None and sharding.memory_kind == HOST


def on_device(x: jax.Array) -> jax.Array:
    """Of an array there, within a program: the same parts in the devices' memory."""
    moved: jax.Array = jax.device_put(x, jax.memory.Space.Device)
    return moved


def require_host_memory(field: str, device: Any) -> None:
    """Refuses what needs host memory of a device that has none.

    Raises:
      UserError: naming `field`, such as `mesh.offload=optimizer`.
    """
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise UserError(
            f'{field}: a {device.platform} device reaches no memory of its host (it has '
            f'{", ".join(kinds)}); leave it out'
        )
