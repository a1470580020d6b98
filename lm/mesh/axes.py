"""The axes of the mesh and their sizes: what `mesh.*` of a config says of a number of devices."""

from lm.config import MeshConfig
from lm.errors import UserError

AXES = ('replica', 'fsdp', 'tensor', 'seq')
ROWS = ('replica', 'fsdp')
"""Axes that rows of a batch are split over."""


def axis_sizes(config: MeshConfig, available: int) -> dict[str, int]:
    """Devices along each axis.

    Unset, `replica` takes the rest under ddp and `fsdp` under zero1 to zero3; every other axis has
    one device.

    Args:
      config: at most one axis is -1, the rest.
      available: devices that there are.

    Raises:
      UserError: the sizes do not multiply to the number of devices, or a zero strategy has
        nothing to split over.
    """
    count = available if config.devices is None else config.devices
    if count > available:
        raise UserError(f'mesh.devices={count}: there are {available} devices; give at most that')
    given = {axis: getattr(config, axis) for axis in AXES}
    rest = [axis for axis, size in given.items() if size == -1]
    if len(rest) > 1:
        raise UserError(f'mesh.{rest[1]}=-1: mesh.{rest[0]} takes the rest already; give a number')
    default = 'replica' if config.strategy == 'ddp' else 'fsdp'
    if not rest and given[default] is None:
        rest = [default]
    sizes = {axis: 1 if given[axis] in (None, -1) else given[axis] for axis in AXES}
    product = 1
    for size in sizes.values():
        product *= size
    if rest:
        sizes[rest[0]] = max(1, count // product)
        product *= sizes[rest[0]]
    if config.strategy != 'ddp' and sizes['fsdp'] == 1 and count > 1:
        raise UserError(
            f'mesh.fsdp=1: {config.strategy} splits over fsdp, which has one of {count} devices; '
            'make it larger, or set mesh.strategy=ddp'
        )
    if product != count:
        words = ', '.join(f'mesh.{axis}={size}' for axis, size in sizes.items() if size > 1)
        raise UserError(
            f'{words or "mesh.replica=1"}: the axes hold {product} devices and there are {count}; '
            'make them multiply to that, set one to -1, or use fewer by mesh.devices'
        )
    return sizes
