"""Linear warm-up, then straight down to a fraction of the peak (Devlin et al. 2019, A.2)."""

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
    peak, warmup = config.peak_lr, config.warmup_steps
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / (warmup + 1), peak, warmup),
            optax.linear_schedule(
                peak, peak * config.final_lr_fraction, max(steps - 1 - warmup, 1)
            ),
        ],
        [warmup],
    )


def plateau_end(config: OptimConfig, steps: int) -> int | None:
    """Every step after the warm-up depends on where the end is."""
    del config, steps
    return None
