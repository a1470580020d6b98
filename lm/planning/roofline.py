"""How long a step takes at least: arithmetic, memory traffic and links, each at its printed rate.

Imports no jax. All times are estimates, and lower bounds: no kernel and no collective reaches the
printed rates. Arithmetic in 16 bit reaches 40 to 60 % of them in practice. The link between a
device and its host, which offloading needs, is not in the table and not counted.
"""

from dataclasses import dataclass

from lm.planning.activations import Work
from lm.planning.devices import Device
from lm.planning.flops import FlopCount
from lm.planning.memory import Held, Memory, Strategy
from lm.planning.parameters import ModelShape
from lm.planning.recipes import Recipe


@dataclass(frozen=True)
class Roofline:
    """Seconds of a step on each of a device's limits.

    Attributes:
      compute: matrix products, those that rematerialisation repeats included, at the peak rate.
      memory: weights, state and activations written and read, at the memory's bandwidth.
      links: collectives, over the links within a host and the network between hosts; the two are
        taken to run beside each other.
      model_flops: FLOPs of a step over all devices, without those that are repeated.
    """

    compute: float
    memory: float
    links: float
    model_flops: int

    @property
    def overlapped(self) -> float:
        """Seconds if the three run beside each other."""
        return max(self.compute, self.memory, self.links)

    @property
    def in_turn(self) -> float:
        """Seconds if each waits for the others."""
        return self.compute + self.memory + self.links

    @property
    def bound(self) -> str:
        """The limit that is reached first."""
        return max(('compute', 'memory', 'links'), key=lambda name: getattr(self, name))


def repeated_flops(count: FlopCount, remat: str) -> int:
    """FLOPs of a row that the backward pass computes once more, of the exact count.

    `full` repeats the layers' forward pass, a third of their training FLOPs; `dots` only what is
    no product with a weight, hence the scores.
    """
    names = {
        'none': [],
        'dots': [name for name in count.by_group if name.endswith('scores')],
        'full': [name for name in count.by_group if name != 'head'],
    }['full' if remat == 'offload' else remat]
    return sum(count.by_group[name] for name in names) // 3


def roofline(
    model: ModelShape,
    count: FlopCount,
    work: Work,
    arrays: Held,
    memory: Memory,
    recipe: Recipe,
    strategy: Strategy,
    device: Device,
    *,
    remat: str,
    microbatches: int,
) -> Roofline:
    """The bounds of one step.

    Args:
      model: its shape.
      count: exact FLOPs of a row.
      work: what a device computes on at once.
      arrays: what it holds of the parameters.
      memory: its bytes.
      recipe: bytes a number.
      strategy: which of the state is split.
      device: its rates.
      remat: what the backward pass recomputes.
      microbatches: parts of a step's batch.
    """
    rows = work.rows * work.axes.rows * microbatches
    flops = rows * (count.row + repeated_flops(count, remat))
    passes = 2 if remat == 'none' else 3
    # Weights are read in each pass; what is kept is written and read; the optimizer reads and
    # writes its state and reads gradients, which each microbatch has written.
    weights = passes * recipe.compute * arrays.whole
    kept = 2 * (memory.activations + memory.logits)
    state = 2 * (memory.state + memory.host_optimizer) + memory.gradients
    traffic = microbatches * (weights + kept + memory.gradients) + state
    return Roofline(
        compute=flops / (work.axes.devices * device.peak(recipe.products)),
        memory=traffic / device.bandwidth,
        links=_links(model, work, arrays, recipe, strategy, device, remat, microbatches),
        model_flops=rows * count.row,
    )


def _links(
    model: ModelShape,
    work: Work,
    arrays: Held,
    recipe: Recipe,
    strategy: Strategy,
    device: Device,
    remat: str,
    microbatches: int,
) -> float:
    """Seconds of all collectives of a step.

    An all-reduce costs twice an all-gather or a reduce-scatter of its size (Rajbhandari et al.
    2020, section 7). Microbatches each reduce their gradients, and gather under zero3: weights that
    are cast already, those of layers once more in the backward pass, unless unrolled layers keep
    them. Gradients pass as the matrix products make them; what zero1 and zero2 have updated is
    gathered as it is kept.
    """
    axes = work.axes
    beside = axes.tensor * axes.seq
    gradients = microbatches * min(recipe.compute, recipe.gradients) * arrays.whole
    kept = recipe.weights * arrays.whole
    # Neighbours share a host: seq lies innermost, then tensor, fsdp and replica (lm/mesh/axes.py).
    over_fsdp = _Group(device, axes.fsdp, beside)
    passed = _within_layers(model, work, device, microbatches)
    if strategy in ('zero2', 'zero3'):
        # Between the groups of a hybrid only gradients pass, already split.
        between = _Group(device, axes.replica, beside * axes.fsdp)
        passed += [(over_fsdp, gradients), (between, 2 * gradients / axes.fsdp)]
    else:
        passed.append((_Group(device, axes.rows, beside), 2 * gradients))
    if strategy == 'zero3':
        again = remat != 'none' or model.config.scan_layers
        gathered = arrays.whole + arrays.matrices * again
        cast = min(recipe.compute, recipe.weights)
        passed.append((over_fsdp, microbatches * cast * gathered))
    elif strategy != 'ddp':
        passed.append((over_fsdp, kept))
    return max(
        sum(group.within_hosts(array) for group, array in passed),
        sum(group.between_hosts(array) for group, array in passed),
    )


def _within_layers(
    model: ModelShape, work: Work, device: Device, microbatches: int
) -> 'list[tuple[_Group, float]]':
    """What tensor and context parallelism pass in a step's layers, in bytes, and among whom."""
    axes, config = work.axes, model.config
    over_seq, over_tensor = _Group(device, axes.seq), _Group(device, axes.tensor, axes.seq)
    passed = []
    for side in work.lengths:
        attentions = 2 if side == 'decoder' and len(work.lengths) == 2 else 1
        layers = microbatches * config.num_layers
        residual = work.compute * work.positions(side) * config.d_model
        # One all-reduce a sublayer and pass (Shoeybi et al. 2019, section 3).
        passed.append((over_tensor, 2 * 2 * (attentions + 1) * layers * residual))
        # Keys and values are gathered in both passes, their gradients scattered in one.
        width = 2 * config.kv_heads * config.head_width / axes.tensor
        keys = work.compute * work.rows * work.lengths[side] * width
        passed.append((over_seq, 3 * layers * attentions * keys))
    return passed


@dataclass(frozen=True)
class _Group:
    """Devices that gather an array together, or scatter the sum of theirs.

    Those of one host share what comes from other hosts: each fetches a part of its own through its
    network, and over the host's links they pass on what they have.

    Attributes:
      device: what they are.
      size: how many.
      stride: each is so many devices after the one before.
    """

    device: Device
    size: int
    stride: int = 1

    @property
    def neighbours(self) -> int:
        """Those of one host; of TPUs, whose pod is one network, all."""
        if self.device.network == self.device.link:
            return self.size
        return min(self.size, max(1, self.device.host // self.stride))

    def within_hosts(self, array: float) -> float:
        """Seconds on a host's links, of an array of so many bytes in all."""
        return array * (1 - 1 / self.neighbours) / self.device.link

    def between_hosts(self, array: float) -> float:
        """Seconds on the network, of the part that a device fetches for its neighbours."""
        part = array / self.neighbours
        return part * (1 - self.neighbours / self.size) / self.device.network
