"""Linear warm-up, then half a cosine down to a fraction of the peak (Loshchilov & Hutter 2017)."""

from typing import TYPE_CHECKING

from lm.config import OptimConfig, require

if TYPE_CHECKING:
    import optax


def build(config: OptimConfig, steps: int) -> 'optax.Schedule':
    """The rate reaches `final_lr_fraction` x peak at the last step.

    Raises:
      UserError: the warm-up leaves no step for the decay.
    """
    import optax

    require(
        config.warmup_steps < steps,
        f'optim.warmup_steps={config.warmup_steps}: must be below train.steps={steps}',
    )
    return optax.join_schedules(
        [
            optax.linear_schedule(
                config.peak_lr / (config.warmup_steps + 1), config.peak_lr, config.warmup_steps
            ),
            optax.cosine_decay_schedule(
                config.peak_lr, max(steps - 1 - config.warmup_steps, 1), config.final_lr_fraction
            ),
        ],
        [config.warmup_steps],
    )


def plateau_end(config: OptimConfig, steps: int) -> int | None:
    """Every step after the warm-up depends on where the end is."""
    del config, steps
    return None
