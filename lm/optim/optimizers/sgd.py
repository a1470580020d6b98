"""Plain stochastic gradient descent, with optional momentum (Sutskever et al. 2013, eq. 1-2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import OptimConfig, require, setting
from lm.optim._decay import decays
from lm.shapes import Dims

if TYPE_CHECKING:
    import optax


@dataclass(frozen=True)
class Options:
    """Momentum."""

    momentum: float | None = setting(
        None, 'decay rate of the running sum of gradients; none: no such sum, and no state'
    )

    def __post_init__(self) -> None:
        require(
            self.momentum is None or 0 <= self.momentum < 1,
            f'optim.options.momentum={self.momentum}: must be in [0, 1), or none',
        )


def build(
    config: OptimConfig, learning_rate: 'optax.Schedule', dims: Dims
) -> 'optax.GradientTransformation':
    """Gradient descent; decay, times the learning rate, on matrices only. `eps` has no place."""
    import optax

    momentum = config.options.momentum
    return optax.chain(
        optax.identity() if momentum is None else optax.trace(decay=momentum),
        optax.add_decayed_weights(config.weight_decay, mask=decays(dims)),
        optax.scale_by_learning_rate(learning_rate),
    )


def kept(options: Options, dims: str) -> tuple[str, ...]:
    """The running sum, if there is one."""
    return () if options.momentum is None else (dims,)
