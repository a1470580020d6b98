"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import OptimConfig, require, setting
from lm.optim._decay import decays
from lm.shapes import Dims

if TYPE_CHECKING:
    import optax


@dataclass(frozen=True)
class Options:
    """Decay rates of the moments (`eps` and `weight_decay` are fields of `optim`)."""

    b1: float = setting(0.9, 'decay rate of the mean of the gradients')
    b2: float = setting(0.95, 'decay rate of the mean of their squares')

    def __post_init__(self) -> None:
        for name, value in (('b1', self.b1), ('b2', self.b2)):
            require(0 <= value < 1, f'optim.options.{name}={value}: must be in [0, 1)')


def build(
    config: OptimConfig, learning_rate: 'optax.Schedule', dims: Dims
) -> 'optax.GradientTransformation':
    """AdamW on all parameters; the decay, times the learning rate, on matrices only."""
    import optax

    return optax.adamw(
        learning_rate,
        b1=config.options.b1,
        b2=config.options.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decays(dims),
    )


def kept(options: Options, dims: str) -> tuple[str, ...]:
    """Both moments."""
    del options
    return (dims, dims)
