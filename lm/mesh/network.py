"""Which device stands where in the mesh, where some are joined by a faster network than others."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils

from lm.errors import UserError

SLOW_FIRST = ('replica', 'fsdp')
"""Axes that may cross the slow network, the one with the least traffic first."""


def device_grid(sizes: Mapping[str, int], devices: Sequence[Any]) -> np.ndarray:
    """Devices in the shape of the axes; those of one slice next to each other.

    A slice (of TPUs: what ICI joins; of GPUs: what NVLink does) is what JAX's `slice_index` tells
    apart. `replica` crosses from slice to slice as far as it divides, then `fsdp`.

    Args:
      sizes: devices along each axis.
      devices: as many as they multiply to.

    Raises:
      UserError: the axes cannot be laid over the slices.
    """
    held = Counter(getattr(device, 'slice_index', 0) for device in devices)
    shape = tuple(sizes.values())
    if len(held) == 1:
        try:
            return np.asarray(mesh_utils.create_device_mesh(shape, devices))
        except NotImplementedError:  # an axis is no product of the torus's own: of parts of them
            split = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
            return np.asarray(split)
    across, slices = dict.fromkeys(sizes, 1), len(held)
    for axis in SLOW_FIRST:
        across[axis] = math.gcd(sizes[axis], slices)
        slices //= across[axis]
    if slices > 1 or len(set(held.values())) > 1:
        raise UserError(
            f'mesh.replica={sizes["replica"]}, mesh.fsdp={sizes["fsdp"]}: cannot be laid over '
            f'{len(held)} slices of {", ".join(map(str, sorted(set(held.values()))))} devices; '
            'make mesh.replica a multiple of the slices, and use all devices of each'
        )
    within = [size // across[axis] for axis, size in sizes.items()]
    return np.asarray(mesh_utils.create_hybrid_device_mesh(within, list(across.values()), devices))
