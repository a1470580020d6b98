"""Linear warm-up, then down with the square root of the step (Vaswani et al. 2017, eq. 3).

T5 decays the same, 1 / sqrt(step), after a constant rate in the place of the warm-up (Raffel et al.
2020, section 3.1.2).
"""

from typing import TYPE_CHECKING

from lm.config import OptimConfig

if TYPE_CHECKING:
    import optax


def build(config: OptimConfig, steps: int) -> 'optax.Schedule':
    """Step n has the rate peak x min(m / w, sqrt(w / m)), m = n + 1 and w = warmup_steps + 1.

    That is eq. 3 with the peak in place of (d_model w) ** -0.5; `final_lr_fraction` has no place.
    """
    import jax.numpy as jnp

    del steps
    warmup = config.warmup_steps + 1
    return lambda step: (
        config.peak_lr * jnp.minimum((step + 1) / warmup, jnp.sqrt(warmup / (step + 1)))
    )


def plateau_end(config: OptimConfig, steps: int) -> int | None:
    """No step depends on the end: a run can be extended from wherever it stopped."""
    del config
    return steps
