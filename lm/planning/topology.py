"""Topologies by name, TPUs' `v5e:16x16` and GPUs' `h100:8x8`, and the devices described of one.

libtpu and the CUDA plugin do that, where nothing of it is there. Names and shapes are checked
without jax.
"""

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import require
from lm.errors import UserError, did_you_mean
from lm.planning.devices import DEVICES, Device
from lm.planning.gpu_targets import TARGETS

if TYPE_CHECKING:
    import jax

ENVIRONMENT = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
"""What libtpu would otherwise ask the network for and complain of on stderr, and does not use of a
described topology; and that other processes may have libtpu open: no TPU is used."""

PODS = {'v4': (12, 16, 16), 'v5e': (16, 16), 'v5p': (16, 20, 28), 'v6e': (16, 16)}
"""Chips along each axis of the largest slice; Google Cloud TPU system pages."""


@dataclass(frozen=True)
class Topology:
    """A slice of a pod of TPUs, or hosts with GPUs.

    Attributes:
      kind: of `PODS` or `TARGETS`, and of `DEVICES`.
      shape: chips along each axis; of GPUs, hosts and how many each has.
    """

    kind: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f'{self.kind}:{"x".join(map(str, self.shape))}'

    @property
    def platform(self) -> str:
        """What JAX calls the devices."""
        return 'tpu' if self.kind in PODS else 'gpu'

    @property
    def chips(self) -> int:
        """How many; a JAX device is one chip."""
        return math.prod(self.shape)

    @property
    def device(self) -> Device:
        """What each chip is."""
        return DEVICES[self.kind]


def find_topology(name: str) -> Topology:
    """The topology of that name.

    Raises:
      UserError: no such kind, or a shape that no pod of it, or no host, holds.
    """
    kind, _, sizes = name.partition(':')
    example = 'v5e:16x16 or v5p:8x8x8, say; of GPUs HOSTSxGPUS, h100:8x8'
    require(
        re.fullmatch(r'[^:]+:[1-9]\d*(x[1-9]\d*)+', name) is not None,
        f'topology={name}: must be KIND:CHIPSxCHIPS, {example}',
    )
    hint = did_you_mean(kind, [*PODS, *TARGETS])
    known = kind in PODS or kind in TARGETS
    require(known, f'topology={name}: {kind} is not in the table{hint}')
    shape = tuple(int(size) for size in sizes.split('x'))
    if kind in TARGETS:
        host = DEVICES[kind].host
        require(
            len(shape) == 2 and shape[1] <= host,
            f'topology={name}: must be {kind}:HOSTSxGPUS, at most {host} GPUs a host',
        )
        return Topology(kind, shape)
    pod = PODS[kind]
    fits = len(shape) == len(pod) and all(
        size <= most for size, most in zip(sorted(shape), sorted(pod), strict=True)
    )
    most = 'x'.join(map(str, pod))
    require(fits, f'topology={name}: not in the table; {kind} has {len(pod)} axes, at most {most}')
    return Topology(kind, shape)


def described_devices(topology: Topology) -> 'list[jax.Device]':
    """Devices that programs can be compiled for and that hold nothing; needs no TPU, no GPU.

    Raises:
      UserError: what describes them is not installed, or does not know the topology.
    """
    import jax

    is_tpu = topology.platform == 'tpu'
    what, extra = ('libtpu', 'tpu') if is_tpu else ('jax-cuda13-plugin', 'cuda13')
    try:
        return _tpus(topology) if is_tpu else _gpus(topology)
    except (ImportError, RuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError):
            raise UserError(f'topology={topology}: {what} refuses it ({error})') from error
        raise UserError(
            f'topology={topology}: needs {what}, which is not installed: '
            f"pip install 'lm-lab[{extra}]'"
        ) from error


def _tpus(topology: Topology) -> 'list[jax.Device]':
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    whole_chips = {'chip_config_name': 'megacore'} if topology.kind == 'v4' else {}
    bounds = [min(size, 2) for size in (*topology.shape, 1)[:2]] + [1]
    described = topologies.get_topology_desc(
        str(topology), 'tpu', chips_per_host_bounds=bounds, **whole_chips
    )
    return list(described.devices)


def _gpus(topology: Topology) -> 'list[jax.Device]':
    """NVLink joins those of a host, and so each host is a partition of its own to XLA."""
    from jax.experimental import topologies

    hosts, gpus = topology.shape
    described = topologies.get_topology_desc(
        '', 'cuda', topology=f'{hosts}x1x{gpus}', target_config=TARGETS[topology.kind]
    )
    return list(described.devices)
