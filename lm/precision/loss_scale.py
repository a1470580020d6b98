"""Loss scaling: the loss is multiplied before the backward pass, its gradients divided after it.

Micikevicius et al. 2018, section 3.2. Scales are powers of two, so that they change no digit of a
gradient that neither overflows nor underflows.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lm.config import PrecisionConfig, require
from lm.precision.policy import Policy
from lm.shapes import Scalar

SMALLEST = 2.0**-24
"""A dynamic scale falls no lower: what overflows there does so by itself."""
LARGEST = 2.0**64


class LossScale(NamedTuple):
    """What a run keeps of it, and checkpoints.

    Attributes:
      scale: fp32, of the next step.
      steps: int32, taken since the scale last changed.
      skipped: int32, steps so far whose gradients overflowed, and which changed no parameter.
    """

    scale: jax.Array
    steps: jax.Array
    skipped: jax.Array


@dataclass(frozen=True)
class Scaling:
    """How a run scales its loss.

    Attributes:
      first: the scale of the first step, of the mean loss of a batch.
      growth_steps: the scale doubles after so many steps without an overflow, and halves at one,
        whose step is skipped; None: it stays, and an overflow ends the run.
      targets: predictions of a batch, at most: the loss is a sum over them.
    """

    first: float
    growth_steps: int | None
    targets: int

    @property
    def dynamic(self) -> bool:
        """Whether the scale changes."""
        return self.growth_steps is not None

    def start(self) -> LossScale:
        """Before the first step."""
        return LossScale(jnp.float32(self.first), jnp.int32(0), jnp.int32(0))

    def factor(self, kept: LossScale) -> Scalar:
        """What the sum of a batch's losses is multiplied with: a power of two, fp32.

        The scale over the number of predictions, that to the nearest power of two.
        """
        return kept.scale * 2.0 ** -round(math.log2(self.targets))

    def after(self, kept: LossScale, finite: jax.Array) -> LossScale:
        """After a step whose gradients are `finite`, a truth value, or not."""
        if self.growth_steps is None:
            return kept
        grows = finite & (kept.steps + 1 >= self.growth_steps)
        grown = jnp.minimum(2 * kept.scale, LARGEST)
        halved = jnp.maximum(kept.scale / 2, SMALLEST)
        scale = jnp.where(finite, jnp.where(grows, grown, kept.scale), halved)
        return LossScale(
            scale,
            jnp.where(finite & ~grows, kept.steps + 1, 0),
            kept.skipped + jnp.where(finite, 0, 1),
        )


def scaling_of(config: PrecisionConfig, policy: Policy, targets: int) -> Scaling | None:
    """How a run of a policy scales its loss; None: not at all.

    Args:
      config: asks for a scale, or leaves it to the policy.
      policy: of the run.
      targets: predictions of a batch, at most.

    Raises:
      UserError: a scale is given, or how it grows, where none is.
    """
    by_policy = 'dynamic' if policy.scales_loss else None
    kind = by_policy if config.loss_scaling == 'auto' else config.loss_scaling
    usual = PrecisionConfig()
    require(
        kind is not None or config.loss_scale == usual.loss_scale,
        f'precision.loss_scale={config.loss_scale:g}: nothing scales the loss under '
        f'precision.policy={policy.name}; leave it out, or set precision.loss_scaling',
    )
    growth = config.loss_scale_growth_steps
    require(
        kind == 'dynamic' or growth == usual.loss_scale_growth_steps,
        f'precision.loss_scale_growth_steps={growth}: no scale grows here; leave it out, or set '
        'precision.loss_scaling=dynamic',
    )
    if kind is None:
        return None
    return Scaling(config.loss_scale, growth if kind == 'dynamic' else None, targets)
