"""How long a step takes at least: arithmetic, memory traffic and links, each at its printed rate.

Imports no jax. All times are estimates, and lower bounds: no kernel and no collective reaches the
printed rates. Arithmetic in 16 bit reaches 40 to 60 % of them in practice.
"""

from dataclasses import dataclass

from lm.planning.activations import Work
from lm.planning.axes import Axes
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
      links: collectives, at the bandwidth of the slowest link that each crosses.
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
    }[remat]
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
    state = 2 * memory.state + memory.gradients
    traffic = microbatches * (weights + kept + memory.gradients) + state
    return Roofline(
        compute=flops / (work.axes.devices * device.peak(recipe.compute)),
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
    """Seconds of all collectives of a step, by what each device sends.

    An all-reduce sends twice its size, an all-gather and a reduce-scatter once (Rajbhandari et
    al. 2020, section 7). Microbatches each reduce their gradients, and gather under zero3, where a
    weight passes as it is kept; a compiler may cast it first.
    """
    axes, state = work.axes, 0.0
    gradients = microbatches * recipe.gradients * arrays.whole
    weights = recipe.weights * arrays.whole
    if strategy == 'zero3':
        gathers = microbatches * (1 if remat == 'none' else 2)
        state += (gradients + gathers * weights) * _share(axes.fsdp)
        # Between the groups of a hybrid only gradients pass, already split.
        state += 2 * gradients / axes.fsdp * _share(axes.replica)
    elif strategy == 'zero2':
        state += (gradients + weights) * _share(axes.fsdp)
        state += 2 * gradients / axes.fsdp * _share(axes.replica)
    else:
        state += 2 * gradients * _share(axes.rows)
        state += weights * _share(axes.fsdp) * (strategy == 'zero1')
    return state / _rate(device, axes, axes.devices) + microbatches * _within_layers(
        model, work, device
    )


def _within_layers(model: ModelShape, work: Work, device: Device) -> float:
    """Seconds of what tensor and context parallelism pass within a microbatch's layers."""
    axes, config, seconds = work.axes, model.config, 0.0
    for side in work.lengths:
        attentions = 2 if side == 'decoder' and len(work.lengths) == 2 else 1
        layers = config.num_layers
        residual = work.compute * work.positions(side) * config.d_model
        # One all-reduce a sublayer and pass (Shoeybi et al. 2019, section 3).
        reduced = 2 * 2 * (attentions + 1) * layers * residual * _share(axes.tensor)
        seconds += reduced / _rate(device, axes, axes.tensor)
        # Keys and values are gathered in both passes, their gradients scattered in one.
        width = 2 * config.kv_heads * config.head_width / axes.tensor
        keys = work.compute * work.rows * work.lengths[side] * width
        seconds += (
            3
            * layers
            * attentions
            * keys
            * _share(axes.seq)
            / _rate(device, axes, axes.tensor * axes.seq)
        )
    return seconds


def _share(devices: int) -> float:
    """What a device of a ring sends of an array that is gathered or scattered."""
    return (devices - 1) / devices


def _rate(device: Device, axes: Axes, reach: int) -> float:
    """Bytes/s of the slowest link among `reach` neighbouring devices."""
    return device.link if min(reach, axes.devices) <= device.host else device.network
