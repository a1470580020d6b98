"""Lion: the sign of an interpolated momentum (Chen et al. 2023, algorithm 2).

Its steps are of one size, so `peak_lr` is to be 3 to 10 times smaller than AdamW's and
`weight_decay` as much larger (section 5).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import OptimConfig, require, setting
from lm.optim._decay import decays
from lm.shapes import Dims

if TYPE_CHECKING:
    import optax


@dataclass(frozen=True)
class Options:
    """Decay rates of the momentum (`weight_decay` is a field of `optim`; `eps` has no place)."""

    b1: float = setting(0.9, 'share of the momentum in what the sign is taken of')
    b2: float = setting(0.99, 'decay rate of the momentum')

    def __post_init__(self) -> None:
        for name, value in (('b1', self.b1), ('b2', self.b2)):
            require(0 <= value < 1, f'optim.options.{name}={value}: must be in [0, 1)')


def build(
    config: OptimConfig, learning_rate: 'optax.Schedule', dims: Dims
) -> 'optax.GradientTransformation':
    """Lion on all parameters; the decay, times the learning rate, on matrices only."""
    import optax

    return optax.lion(
        learning_rate,
        b1=config.options.b1,
        b2=config.options.b2,
        weight_decay=config.weight_decay,
        mask=decays(dims),
    )


def kept(options: Options, dims: str) -> tuple[str, ...]:
    """The momentum."""
    del options
    return (dims,)
