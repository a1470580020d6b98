"""Linear warm-up, then the peak to the end."""

from typing import TYPE_CHECKING

from lm.config import OptimConfig

if TYPE_CHECKING:
    import optax


def build(config: OptimConfig, steps: int) -> 'optax.Schedule':
    """Step n of the warm-up has the rate peak x (n + 1) / (warmup_steps + 1)."""
    import optax

    del steps
    warmup = config.warmup_steps + 1
    return optax.linear_schedule(config.peak_lr / warmup, config.peak_lr, config.warmup_steps)


def plateau_end(config: OptimConfig, steps: int) -> int | None:
    """No step depends on the end: a run can be extended from wherever it stopped."""
    del config
    return steps
