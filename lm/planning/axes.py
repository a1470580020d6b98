"""How many devices a plan lays along each axis of the mesh. Imports no jax."""

from dataclasses import dataclass

from lm.config import require


@dataclass(frozen=True)
class Axes:
    """Devices along each axis; their product is the number of devices.

    Attributes:
      replica: groups of devices that each hold the whole state between them.
      fsdp: devices that zero1 to zero3 split the state over.
      tensor: devices that heads, feed-forward width and vocabulary are split over.
      seq: devices that the positions of a row are split over.
    """

    replica: int
    fsdp: int
    tensor: int = 1
    seq: int = 1

    @property
    def devices(self) -> int:
        """All of them."""
        return self.replica * self.fsdp * self.tensor * self.seq

    @property
    def rows(self) -> int:
        """Devices that the rows of a batch are split over."""
        return self.replica * self.fsdp


def lay_out(
    devices: int,
    *,
    replica: int | None = None,
    fsdp: int | None = None,
    tensor: int = 1,
    seq: int = 1,
) -> Axes:
    """The axes of so many devices; of `replica` and `fsdp` what is not given takes the rest.

    Both unset: all that is left is `fsdp`, and ddp takes it for replicas.

    Raises:
      UserError: the sizes do not multiply to `devices`, or leave nothing to split over.
    """
    given = {'devices': devices, 'replica': replica, 'fsdp': fsdp, 'tensor': tensor, 'seq': seq}
    for name, size in given.items():
        require(size is None or size > 0, f'{name}={size}: must be at least 1')
    known = (replica or 1) * (fsdp or 1) * tensor * seq
    words = ', '.join(f'{name}={size}' for name, size in given.items() if size not in (None, 1))
    require(
        devices % known == 0,
        f'devices={devices}: not divisible by the axes, which hold {known} ({words})',
    )
    rest = devices // known
    if fsdp is None:
        fsdp, rest = rest, 1
    elif replica is None:
        replica, rest = rest, 1
    require(
        rest == 1,
        f'devices={devices}: the axes hold {known} ({words}); make them multiply to that, or '
        'leave fsdp or replica out',
    )
    axes = Axes(replica or 1, fsdp, tensor, seq)
    require(
        axes.fsdp > 1 or axes.rows == 1,
        f'fsdp=1: zero1 to zero3 split over fsdp, which has one of {devices} devices; make it '
        'larger, or leave it out',
    )
    return axes
