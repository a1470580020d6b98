"""A run before it exists: what each strategy holds and how long a step takes. Imports no jax."""

from dataclasses import dataclass
from functools import cached_property

from lm.attention.kernel import Chip, Kernel, choose
from lm.config import Config, require
from lm.planning.activations import REMATS, Work, activations
from lm.planning.axes import Axes, lay_out
from lm.planning.budget import budget_steps
from lm.planning.compilers import compiler_of
from lm.planning.counts import count_parameters
from lm.planning.devices import Device, find_device
from lm.planning.flops import FlopCount, train_flops, train_flops_exact
from lm.planning.memory import (
    STRATEGIES,
    Held,
    Memory,
    Strategy,
    held,
    host_bytes_while_saving,
    state_memory,
    step_memory,
)
from lm.planning.parameters import ModelShape, model_shape
from lm.planning.recipes import RECIPES, Recipe, find_recipe, recipe_of
from lm.planning.roofline import Roofline, roofline
from lm.planning.rows import (
    attention_uses,
    attention_width,
    num_asked,
    require_division,
    side_lengths,
)

USABLE = 0.92
"""Share of a device's memory that a run can count on; the runtime, its kernels and fragmentation
take the rest (an estimate)."""


@dataclass(frozen=True)
class StrategyPlan:
    """One strategy.

    Attributes:
      memory: bytes on a device.
      fits: whether they fit into the device named; None where none is.
      time: bounds of a step; None without a device or a config.
      activations_by_remat: bytes of activations and logits under each value of `model.remat`.
      host_bytes: host memory while a checkpoint is saved.
    """

    memory: Memory
    fits: bool | None
    time: Roofline | None
    activations_by_remat: dict[str, float]
    host_bytes: float | None


@dataclass(frozen=True)
class Plan:
    """What is asked: a config, or only a number of parameters, on so many devices.

    Attributes:
      recipe: bytes a parameter.
      axes: devices along each axis, for zero1 to zero3; ddp makes replicas of fsdp.
      device: what they are, or None.
      config: the run, or None where only `params` is known.
      params: numbers in the model's arrays; of a config without the vocabulary's padding.
    """

    recipe: Recipe
    axes: Axes
    device: Device | None
    config: Config | None
    params: float
    model: ModelShape | None = None
    lengths: dict[str, int] | None = None

    @classmethod
    def of_params(
        cls, params: float, recipe: Recipe, axes: Axes, device: Device | None = None
    ) -> 'Plan':
        """The plan of a model of which only the size is known.

        Raises:
          UserError: it is not positive.
        """
        require(params > 0, f'params={params:g}: must be positive')
        require(axes.seq == 1, f'seq={axes.seq}: rows are not known; give a config')
        return cls(recipe, axes, device, None, params)

    @classmethod
    def of_config(
        cls, config: Config, recipe: Recipe, axes: Axes, device: Device | None = None
    ) -> 'Plan':
        """The plan of a run.

        Raises:
          UserError: the axes do not divide the model or its batch.
        """
        model = model_shape(config.model)
        lengths = side_lengths(config, model.family)
        require_division(config, model, lengths, axes)
        return cls(recipe, axes, device, config, count_parameters(model).total, model, lengths)

    @property
    def steps(self) -> int | None:
        """Steps of the run; None where there is none, or a clock decides them.

        Raises:
          UserError: its budget is less than a step.
        """
        return None if self.config is None else budget_steps(self.config)

    def strategies(self) -> dict[Strategy, StrategyPlan]:
        """Each strategy on these devices."""
        return {strategy: self.strategy(strategy) for strategy in STRATEGIES}

    def strategy(self, strategy: Strategy) -> StrategyPlan:
        """One strategy on these devices."""
        memory = self.memory(strategy)
        fits = None if self.device is None else memory.total <= USABLE * self.device.memory
        host = None
        if self.device is not None:
            host = host_bytes_while_saving(memory, strategy, self.axes, self.device.host)
        return StrategyPlan(memory, fits, self._time(strategy, memory), self._by_remat(), host)

    def flops(self) -> tuple[FlopCount, FlopCount] | None:
        """FLOPs of a row by the 6N rule and by the exact one; None where only a size is known."""
        if self.model is None or self.lengths is None:
            return None
        first, *second = self.lengths.values()
        decoder = second[0] if second else None
        assert self.config is not None
        asked = num_asked(self.config)
        return (
            train_flops(self.model, first, decoder),
            train_flops_exact(self.model, first, decoder, asked=asked),
        )

    @cached_property
    def _work(self) -> Work:
        assert self.config is not None and self.lengths is not None
        train = self.config.train
        rows = train.batch_size // (train.microbatches * self.axes.rows)
        return Work(
            rows,
            self.lengths,
            self.axes,
            self.recipe.compute,
            compiler_of(self.device),
            self.kernel,
            num_asked(self.config) if self.axes.seq == 1 else None,
        )

    @cached_property
    def kernel(self) -> Kernel:
        """What would compute attention; without a device, what does so on a CPU.

        Raises:
          UserError: `mesh.attention` names one that does not serve.
        """
        if self.config is None or self.model is None or self.axes.seq > 1:
            return Kernel()
        dtype = self.recipe.products
        used = attention_uses(self.config, self.model.family)
        width = attention_width(self.config.model)
        asked = self.config.mesh.attention
        if self.device is None and asked in ('cudnn', 'splash'):
            return Kernel(asked, uses=used)
        chip = Chip('cpu') if self.device is None else self.device.chip
        return choose(asked, chip, dtype, width, used)

    def _arrays(self) -> Held:
        if self.model is None:
            return Held.evenly(self.params, self.axes)
        return held(self.model, self.axes)

    def memory(self, strategy: Strategy) -> Memory:
        """Bytes on a device under one strategy."""
        if self.config is None or self.model is None:
            return state_memory(self._arrays(), self.recipe, strategy)
        return step_memory(
            self.model,
            self._work,
            self.recipe,
            strategy,
            self.config.model.remat,
            self.config.train.microbatches,
            offloads=self.config.mesh.offload == 'optimizer',
        )

    def _by_remat(self) -> dict[str, float]:
        if self.model is None:
            return {}
        return {remat: activations(self.model, self._work, remat).peak for remat in REMATS}

    def _time(self, strategy: Strategy, memory: Memory) -> Roofline | None:
        counted = self.flops()
        if counted is None or self.device is None or self.config is None or self.model is None:
            return None
        return roofline(
            self.model,
            counted[1],
            self._work,
            self._arrays(),
            memory,
            self.recipe,
            strategy,
            self.device,
            remat=self.config.model.remat,
            microbatches=self.config.train.microbatches,
        )


def plan(
    config: Config | None = None,
    *,
    params: float | None = None,
    devices: int = 1,
    device_kind: str = '',
    recipe: str = '',
    replica: int | None = None,
    fsdp: int | None = None,
    tensor: int = 1,
    seq: int = 1,
) -> Plan:
    """What a run needs before it exists: `.strategies()` side by side, `.flops()` of a row.

    Args:
      config: the run; of its `mesh` only `attention`, `offload` and `collectives` are read.
      params: a number of parameters, instead of `config`.
      devices: how many.
      device_kind: which, of `lm.planning.devices.DEVICES`; empty: no time, no verdict.
      recipe: bytes a parameter, of `lm.planning.recipes.RECIPES`; empty: what `lm train` keeps.
      replica: groups of devices that each hold the whole state.
      fsdp: devices that zero1 to zero3 split over; None: those that are left.
      tensor: devices that heads, feed-forward width and vocabulary are split over.
      seq: devices that the positions of a row are split over.

    Raises:
      UserError: both or neither of `config` and `params`, an unknown name, or axes that do not
        divide the devices, the model or its batch.
    """
    require(config is None or params is None, 'params: give it or config, not both')
    require(config is not None or params is not None, 'params: missing; give it, or config')
    axes = lay_out(devices, replica=replica, fsdp=fsdp, tensor=tensor, seq=seq)
    device = find_device(device_kind) if device_kind else None
    chosen = find_recipe(recipe) if recipe else None
    if config is not None:
        return Plan.of_config(config, chosen or recipe_of(config), axes, device)
    assert params is not None
    return Plan.of_params(params, chosen or RECIPES['bf16_mixed'], axes, device)
