"""Linear warm-up, then the peak to the end."""

import optax

from lm.config import OptimConfig


def build(config: OptimConfig, steps: int) -> optax.Schedule:
    """Step n of the warm-up has the rate peak x (n + 1) / (warmup_steps + 1)."""
    del steps
    warmup = config.warmup_steps + 1
    return optax.linear_schedule(config.peak_lr / warmup, config.peak_lr, config.warmup_steps)


def plateau_end(config: OptimConfig, steps: int) -> int | None:
    """No step depends on the end: a run can be extended from wherever it stopped."""
    del config
    return steps
