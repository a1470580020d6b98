"""Slices of TPUs and hosts with GPUs, as Google Cloud names and offers them."""

import itertools
import math
import re
from dataclasses import dataclass

from lm.errors import UserError, did_you_mean
from lm.planning.devices import DEVICES
from lm.planning.topology import PODS


@dataclass(frozen=True)
class Tpu:
    """A generation of TPUs.

    Attributes:
      prefix: of its accelerator types, `v5litepod-16`.
      cores: that a chip counts for in the number of an accelerator type.
      runtime: the software of its TPU VMs, for JAX.
      node_label: of its nodes on GKE, as `cloud.google.com/gke-tpu-accelerator`.
    """

    prefix: str
    cores: int
    runtime: str
    node_label: str


TPUS = {
    'v4': Tpu('v4', 2, 'tpu-ubuntu2204-base', 'tpu-v4-podslice'),
    'v5e': Tpu('v5litepod', 1, 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice'),
    'v5p': Tpu('v5p', 2, 'v2-alpha-tpuv5', 'tpu-v5p-slice'),
    'v6e': Tpu('v6e', 1, 'v2-alpha-tpuv6e', 'tpu-v6e-slice'),
}
"""Google Cloud's pages on TPU software versions, on each generation, and on TPUs in GKE."""

GPUS = {
    'v100': 'nvidia-tesla-v100',
    'a100-40gb': 'nvidia-tesla-a100',
    'a100-80gb': 'nvidia-a100-80gb',
    'h100': 'nvidia-h100-80gb',
    'h200': 'nvidia-h200-141gb',
    'b200': 'nvidia-b200',
}
"""The label `cloud.google.com/gke-accelerator` of nodes with each GPU; GKE's page on GPUs."""

FLAT_SHAPES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
SMALL_CUBOIDS = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
CUBE = 4
"""Larger slices of three axes are of cubes of 4 x 4 x 4 chips, their axes in ascending order."""

WHOLE_HOST = 8
"""Chips of v5e and v6e that one TPU VM may have; of larger slices each has four, as of v4, v5p."""


@dataclass(frozen=True)
class Slice:
    """What is asked for at once: a slice of TPUs, or hosts with GPUs.

    Attributes:
      kind: of `TPUS` or `GPUS`.
      shape: chips along each axis; of GPUs, hosts and how many each has.
    """

    kind: str
    shape: tuple[int, ...]

    @property
    def is_tpu(self) -> bool:
        """Whether of TPUs."""
        return self.kind in TPUS

    @property
    def chips(self) -> int:
        """How many devices JAX sees in all."""
        return math.prod(self.shape)

    @property
    def topology(self) -> str:
        """The shape in words, `4x4`."""
        return 'x'.join(map(str, self.shape))


def shapes(kind: str) -> list[tuple[int, ...]]:
    """The shapes in which slices of a generation are offered, small ones first."""
    pod = PODS[kind]
    if len(pod) == 2:
        return [*FLAT_SHAPES]
    axes = range(CUBE, max(pod) + 1, CUBE)
    cuboids = [
        shape
        for shape in itertools.combinations_with_replacement(axes, 3)
        if all(size <= most for size, most in zip(shape, sorted(pod), strict=True))
    ]
    return [*SMALL_CUBOIDS, *sorted(cuboids, key=math.prod)]


def find_slice(name: str) -> Slice:
    """The slice of that name: `v5e:4x4`, or of GPUs `h100:HOSTSxGPUS`.

    Raises:
      UserError: no such kind, or a shape in which it is not offered.
    """
    kind, _, sizes = name.partition(':')
    kinds = [*TPUS, *GPUS]
    words = f'--topology={name}'
    if kind not in kinds:
        raise UserError(f'{words}: {kind or "nothing"} is no kind{did_you_mean(kind, kinds)}')
    shape = (
        tuple(map(int, sizes.split('x'))) if re.fullmatch(r'[1-9]\d*(x[1-9]\d*)+', sizes) else ()
    )
    if kind in GPUS:
        most = DEVICES[kind].host
        if len(shape) != 2 or shape[1] > most:
            raise UserError(
                f'{words}: must be {kind}:HOSTSxGPUS with at most {most} GPUs a host, '
                f'{kind}:2x{most} say'
            )
        return Slice(kind, shape)
    offered = shapes(kind)
    if shape not in offered:
        turned = tuple(sorted(shape))
        hint = (
            f'did you mean {kind}:{Slice(kind, turned).topology}?'
            if turned in offered
            else f'{kind} has {_some([Slice(kind, known).topology for known in offered])}'
        )
        raise UserError(f'{words}: not offered; {hint}')
    return Slice(kind, shape)


def accelerator_types() -> dict[str, Slice]:
    """Slices by the names that Cloud TPU gives them (`v5litepod-16`), by their smallest shape."""
    found: dict[str, Slice] = {}
    for kind, tpu in TPUS.items():
        for shape in shapes(kind):
            one = Slice(kind, shape)
            found.setdefault(f'{tpu.prefix}-{one.chips * tpu.cores}', one)
    return found


def find_accelerator_type(name: str) -> Slice:
    """The slice that Cloud TPU calls so.

    Raises:
      UserError: there is none.
    """
    known = accelerator_types()
    if name in known:
        return known[name]
    prefix, _, number = name.partition('-')
    words = f'--accelerator_type={name}'
    if prefix in TPUS and (right := f'{TPUS[prefix].prefix}-{number}') in known:
        raise UserError(f'{words}: no such type; did you mean {right}?')
    same = [known_name for known_name in known if known_name.startswith(f'{prefix}-')]
    if same:
        raise UserError(f'{words}: no such type; there are {_some(same)}')
    firsts = [f'{tpu.prefix}-N' for tpu in TPUS.values()]
    raise UserError(f'{words}: no such type; N being its size there are {", ".join(firsts)}')


def tpu_vm_hosts(asked: Slice) -> int:
    """How many TPU VMs a slice has, each of which is a process."""
    if len(asked.shape) == 2 and asked.chips <= WHOLE_HOST:
        return 1
    return asked.chips // DEVICES[asked.kind].host


def _some(names: list[str]) -> str:
    """All of a short list, the ends of a long one."""
    shown = names if len(names) <= 12 else [*names[:10], '...', names[-1]]
    return ', '.join(shown)
