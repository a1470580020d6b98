"""Bytes per device of a training run, by strategy, before it exists. Imports no jax.

Parameters, gradients and optimizer state are exact sums over the arrays. What else a step holds is
an estimate: `ESTIMATES` says which terms.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from lm.planning.activations import Activations, Work, activations
from lm.planning.axes import Axes
from lm.planning.parameters import ModelShape
from lm.planning.recipes import Recipe, kept_size
from lm.shapes import STACKED, is_matrix

Strategy = Literal['ddp', 'zero1', 'zero2', 'zero3']

STRATEGIES: dict[Strategy, int] = {'ddp': 0, 'zero1': 1, 'zero2': 2, 'zero3': 3}
"""Stages of ZeRO (Rajbhandari et al. 2020, section 5): 1 splits the optimizer's state over fsdp,
2 gradients too, 3 parameters too."""

ESTIMATES = (
    'fetched', 'accumulator', 'compute_weights', 'temporaries', 'activations', 'logits',
    'workspace',
)  # fmt: skip
"""Fields of `Memory` that are estimates; the rest is exact."""

TENSOR_LETTERS = 'HGFV'
"""Dimensions that `tensor` splits (Shoeybi et al. 2019, section 3)."""


@dataclass(frozen=True)
class Held:
    """Numbers that a device holds of the parameters.

    Attributes:
      whole: where `tensor` alone splits them.
      split: where `fsdp` splits the matrices too, each along a dimension that it divides.
      matrices: of `whole`, the layers' matrices.
      head: the output matrix.
      layer: of `whole`, the matrices of the largest layer.
    """

    whole: float
    split: float
    matrices: float
    head: float
    layer: float

    @classmethod
    def evenly(cls, params: float, axes: Axes) -> 'Held':
        """Of a model of which only the size is known: every number is split."""
        whole = params / axes.tensor
        return cls(whole, whole / axes.fsdp, whole, 0, 0)


def held(model: ModelShape, axes: Axes) -> Held:
    """What a device holds of each array, added up; the vocabulary's padding included."""
    whole = split = matrices = 0.0
    per_layer = {'encoder': 0.0, 'decoder': 0.0}
    for path, letters in model.dims.items():
        own, part = _held_of(letters, model.shapes[path].shape, axes)
        whole += own
        split += part
        if is_matrix(letters) and letters.startswith('L'):
            matrices += own
            per_layer[path.partition('/')[0]] += own / model.config.num_layers
    head = model.config.padded_vocab_size * model.config.d_model / axes.tensor
    return Held(whole, split, matrices, head, max(per_layer.values()))


def _held_of(letters: str, shape: tuple[int, ...], axes: Axes) -> tuple[float, float]:
    """Numbers of one array that a device holds: split over `tensor`, and over `fsdp` too."""
    own = math.prod(shape)
    spread = next((i for i, x in enumerate(letters) if x in TENSOR_LETTERS), None)
    if spread is None or axes.tensor == 1 or shape[spread] % axes.tensor:
        spread = None
    else:
        own //= axes.tensor
    free = [size for i, size in enumerate(shape) if letters[i] not in STACKED and i != spread]
    divides = is_matrix(letters) and any(size % axes.fsdp == 0 for size in free)
    return own, own / axes.fsdp if divides else own


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the fullest moment of a step.

    Attributes:
      parameters, gradients, optimizer: the state, of which gradients live within a step only.
      fetched: of an optimizer's state that lies with the host, what is on its way: that of a layer
        and of all that is in none, as it was fetched and as it goes back.
      accumulator: a second tree of gradients, where microbatches are added up.
      compute_weights: weights cast to the dtype of the computation, or gathered under zero3.
      temporaries: activations and all else by a recipe's rule of thumb.
      activations: kept for the backward pass.
      logits: logits and their gradient.
      workspace: of the backward pass of one layer, beyond what the logits leave free, and what the
        compiler leaves unused between arrays.
      host_optimizer, host_activations: in the memory of the host, for this device; in no sum here.
    """

    parameters: float
    gradients: float
    optimizer: float
    fetched: float = 0
    accumulator: float = 0
    compute_weights: float = 0
    temporaries: float = 0
    activations: float = 0
    logits: float = 0
    workspace: float = 0
    host_optimizer: float = 0
    host_activations: float = 0

    @property
    def host(self) -> float:
        """Bytes in the memory of the host."""
        return self.host_optimizer + self.host_activations

    @property
    def state(self) -> float:
        """Bytes between steps: parameters and the optimizer's state."""
        return self.parameters + self.optimizer

    @property
    def total(self) -> float:
        """Bytes in all."""
        return sum(getattr(self, name) for name in PARTS)


PARTS = tuple(name for name in Memory.__dataclass_fields__ if not name.startswith('host_'))
"""The parts of `Memory` that are on the device, in the order in which they are shown."""


def state_memory(arrays: Held, recipe: Recipe, strategy: Strategy) -> Memory:
    """Memory of which nothing but the state is known: that of a number of parameters."""
    stage = STRATEGIES[strategy]
    parameters = arrays.split if stage >= 3 else arrays.whole
    return Memory(
        parameters=recipe.weights * parameters,
        gradients=recipe.gradients * (arrays.split if stage >= 2 else arrays.whole),
        optimizer=recipe.optimizer * (arrays.split if stage >= 1 else arrays.whole),
        compute_weights=recipe.cast * parameters,
        temporaries=recipe.temporaries * arrays.whole,
    )


def step_memory(
    model: ModelShape,
    work: Work,
    recipe: Recipe,
    strategy: Strategy,
    remat: str,
    microbatches: int,
    *,
    offloads: bool = False,
) -> Memory:
    """Memory of a training step of a model.

    A recipe that counts activations by the parameter takes the place of the closed forms.

    Args:
      model: what is trained.
      work: what the device computes on at once.
      recipe: in which number formats, by which optimizer.
      strategy: what of the state is split.
      remat: as `model.remat`.
      microbatches: as `train.microbatches`.
      offloads: the optimizer's state lies in the host's memory.
    """
    arrays = held(model, work.axes)
    state = state_memory(arrays, recipe, strategy)
    optimizer, at_once = _optimizer(model, work.axes, recipe, strategy)
    state = replace(state, optimizer=optimizer)
    if offloads:
        state = replace(state, optimizer=0, fetched=2 * at_once, host_optimizer=optimizer)
    if recipe.temporaries:
        return state
    kept = activations(model, work, remat)
    return Memory(
        state.parameters,
        state.gradients,
        state.optimizer,
        state.fetched,
        accumulator=state.gradients if microbatches > 1 else 0,
        compute_weights=_compute_weights(arrays, recipe, strategy, model, remat, work),
        activations=kept.saved,
        logits=kept.logits,
        workspace=_workspace(kept),
        host_optimizer=state.host_optimizer,
        host_activations=kept.host,
    )


def _optimizer(
    model: ModelShape, axes: Axes, recipe: Recipe, strategy: Strategy
) -> tuple[float, float]:
    """Bytes of the optimizer's arrays, and of those that are updated at once where it is streamed.

    At once are one layer, of both sides where there are two, and all that is in no layer. Arrays of
    a parameter's letters are split as it is; others, Adafactor's rows and columns, are on every
    device.
    """
    total = at_once = 0.0
    for path, letters in model.dims.items():
        shape = model.shapes[path].shape
        whole, split = _held_of(letters, shape, axes)
        like_it = split if STRATEGIES[strategy] >= 1 else whole
        if recipe.kept is None:
            size = recipe.optimizer * like_it
        else:
            size = sum(
                recipe.number * (like_it if array == letters else kept_size(array, letters, shape))
                for array in recipe.kept(letters)
            )
        total += size
        at_once += size / (model.config.num_layers if letters.startswith('L') else 1)
    return total, at_once


def _compute_weights(
    arrays: Held, recipe: Recipe, strategy: Strategy, model: ModelShape, remat: str, work: Work
) -> float:
    """Bytes of weights that are not those at rest, and of whole gradients of split ones.

    Without remat every layer's cast, or gathered weight, is kept for the backward pass; with it
    those of the layers at work, and of those that are gathered ahead. Unrolled layers are gathered
    all at once. A weight is cast before it is gathered. Beside the logits lie the output matrix as
    it is multiplied, and its whole gradient where the strategy splits it.
    """
    axes, compiler = work.axes, work.compiler
    gathered = strategy == 'zero3' and axes.fsdp > 1
    at_work = arrays.layer * model.config.scan_unroll
    layer = (recipe.compute if gathered else recipe.cast) * at_work * (1 + gathered)
    if compiler.casts_ahead and model.config.scan_layers:
        layers = recipe.cast * arrays.matrices / (axes.fsdp if gathered else 1)
    else:
        all_layers = remat == 'none' or (gathered and not model.config.scan_layers)
        layers = recipe.compute * arrays.matrices * all_layers
    splits = STRATEGIES[strategy] >= 2 and axes.fsdp > 1
    table = (recipe.compute + recipe.gradients * splits) * arrays.head
    return layers + layer + table if gathered or recipe.cast else 0


def _workspace(kept: Activations) -> float:
    return kept.peak - kept.saved - kept.logits


def host_bytes_while_saving(memory: Memory, strategy: Strategy, axes: Axes, per_host: int) -> float:
    """Host memory while a save is under way: a copy of what a host's devices alone hold.

    And what lies there in any case, of all of its devices.

    An estimate: arrays that are on every device are written, and copied, by one host only.
    """
    devices = min(per_host, axes.devices)
    tensor = min(axes.tensor, devices)
    shards = max(1, min(axes.fsdp, devices // tensor))
    stage = STRATEGIES[strategy]
    copied = tensor * (
        memory.parameters * (shards if stage >= 3 else 1)
        + (memory.optimizer + memory.host_optimizer) * (shards if stage >= 1 else 1)
    )
    return copied + devices * memory.host
