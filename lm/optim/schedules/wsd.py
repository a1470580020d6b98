"""Warm-up, stable, decay (Hu et al. 2024, MiniCPM, section 4.2), with a linear decay."""

from typing import TYPE_CHECKING

from lm.config import OptimConfig, require

if TYPE_CHECKING:
    import optax


def decay_steps(config: OptimConfig, steps: int) -> int:
    """Steps of the decay: as set, or a fifth of the run."""
    return config.decay_steps if config.decay_steps is not None else max(steps // 5, 1)


def build(config: OptimConfig, steps: int) -> 'optax.Schedule':
    """The peak until `decay_steps` before the end, then straight down to the final rate.

    Raises:
      UserError: warm-up and decay together are longer than the run.
    """
    import optax

    decay = decay_steps(config, steps)
    require(
        config.warmup_steps + decay <= steps,
        f'optim.warmup_steps={config.warmup_steps}: with a decay of {decay} steps '
        f'(optim.decay_steps) more than train.steps={steps}',
    )
    peak, final = config.peak_lr, config.peak_lr * config.final_lr_fraction
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / (config.warmup_steps + 1), peak, config.warmup_steps),
            # The first step of the decay is already below the peak, the last has the final rate.
            optax.linear_schedule(peak - (peak - final) / decay, final, max(decay - 1, 1)),
        ],
        [steps - decay],
    )


def plateau_end(config: OptimConfig, steps: int) -> int | None:
    """Where the decay begins: the state there is the same however long the run is."""
    return steps - decay_steps(config, steps)
