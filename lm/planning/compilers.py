"""What a compiler holds of the arrays that a step could hold. Imports no jax.

XLA:CPU and XLA:GPU hold what JAX saves. XLA:TPU fuses more: each figure of `TPU` names the arrays
it stands for, as the scheduled HLO of libtpu 0.0.42.1 shows them (docs/LOG.md, "`lm plan` against
TPU compilers").
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lm.planning.devices import Device


@dataclass(frozen=True)
class Compiler:
    """What is held at once.

    Attributes:
      logits: arrays of the logits' size.
      head_masks: each head's mask, and what takes the masked scores' place, are held. Otherwise
        one mask [B, T, S] serves all heads.
      fuses_layers: of a layer that is recomputed the arrays between fusions are held, not all
        that its backward pass reads.
      casts_ahead: all weights at rest are cast before the loop over layers, which runs with what
        lies in the loop only once gathered.
      beside_stacks: where a scan stacks all that JAX saves, how many times the room of the logits,
        or of a layer at work, is taken beside the stacks.
      packing: by `model.remat`, how far the addresses of activations, logits and workspace reach
        beyond the bytes that live at once: what the allocator leaves between them.
    """

    logits: int
    head_masks: bool
    fuses_layers: bool
    casts_ahead: bool
    beside_stacks: int
    packing: Mapping[str, float]


AS_SAVED = Compiler(
    logits=2,
    head_masks=True,
    fuses_layers=False,
    casts_ahead=False,
    beside_stacks=1,
    packing={'none': 1.0, 'dots': 1.0, 'full': 1.0, 'offload': 1.0},
)
"""XLA:CPU and XLA:GPU: the logits and their gradient, and what JAX saves, array by array."""

TPU = Compiler(
    # The gradient, softmax minus one-hot, is computed inside the two products that read it.
    logits=1,
    head_masks=False,
    fuses_layers=True,
    casts_ahead=True,
    # Inferred from sizes, seen in no HLO: as if what the forward loop or the head held were not
    # given back before the next needs as much.
    beside_stacks=2,
    # Fits, by which the plan's largest error is least. The temporaries of `dots` vary most.
    packing={'none': 1.05, 'dots': 1.28, 'full': 1.15, 'offload': 1.15},
)
"""XLA:TPU, the compiler of all TPUs."""


def compiler_of(device: Device | None) -> Compiler:
    """The compiler of programs for a device; without one, that of the CPU."""
    return TPU if device is not None and device.peaks.startswith('TPU') else AS_SAVED
