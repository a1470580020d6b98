"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, "Definition").

It turns the matrices of the layers, attention's as D x HK and HK x D; tables that are looked up,
the output matrix and vectors are AdamW's. optax's own, which corrects the bias of both terms of
Nesterov's momentum; the iteration is in the dtype of the parameters.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lm.config import OptimConfig, require, setting
from lm.optim.optimizers import adamw
from lm.shapes import Dims, is_matrix, space_axes

if TYPE_CHECKING:
    import optax

TABLES = 'VPY'
"""Letters of what is looked up by row: tokens (the output matrix too), positions, token types."""


@dataclass(frozen=True)
class Options:
    """Of the momentum, the iteration, and AdamW (`eps`, `weight_decay`: fields of `optim`)."""

    momentum: float = setting(0.95, 'decay rate of the mean of the gradients')
    nesterov: bool = setting(True, 'takes the mean a step ahead')
    iterations: int = setting(5, 'of Newton-Schulz')
    rms: float | None = setting(
        0.2,
        'root mean square of an update (Liu et al. 2025, eq. 4), as of AdamW; none: '
        "Jordan's sqrt(max(1, width out / width in)) times an orthogonal matrix",
    )
    adamw_rate: float = setting(1.0, "AdamW's learning rate, as a share of Muon's")
    adamw_b1: float = setting(0.9, "AdamW's decay rate of the mean of the gradients")
    adamw_b2: float = setting(0.95, "AdamW's decay rate of the mean of their squares")

    def __post_init__(self) -> None:
        for name in ('momentum', 'adamw_b1', 'adamw_b2'):
            value = getattr(self, name)
            require(0 <= value < 1, f'optim.options.{name}={value}: must be in [0, 1)')
        for name in ('iterations', 'rms', 'adamw_rate'):
            value = getattr(self, name)
            require(value is None or value > 0, f'optim.options.{name}={value}: must be positive')


def build(
    config: OptimConfig, learning_rate: 'optax.Schedule', dims: Dims
) -> 'optax.GradientTransformation':
    """Muon on the layers' matrices, AdamW on the rest; both decay matrices, times their rate."""
    import optax

    options = config.options
    turned = {path: space_axes(letters) for path, letters in dims.items() if turns(letters)}

    def numbers(updates: Any) -> Any:
        """Which axes are flattened to the two of a matrix, in the tree that `partition` makes."""
        return {
            path: optax.contrib.MuonDimensionNumbers(*turned[path]) if path in turned else update
            for path, update in updates.items()
        }

    muon = optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=options.iterations,
            beta=options.momentum,
            eps=config.eps,
            nesterov=options.nesterov,
            weight_dimension_numbers=numbers,
        ),
        optax.stateless(lambda updates, _: _scaled(updates, turned, options.rms)),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = adamw.build(
        replace(config, options=adamw.Options(options.adamw_b1, options.adamw_b2)),
        lambda step: options.adamw_rate * learning_rate(step),
        dims,
    )
    labels = {path: 'muon' if path in turned else 'adamw' for path in dims}
    return optax.partition({'muon': muon, 'adamw': rest}, labels)


def kept(options: Options, dims: str) -> tuple[str, ...]:
    """The momentum of what Muon turns, AdamW's moments of the rest."""
    del options
    return (dims,) if turns(dims) else (dims, dims)


def turns(dims: str) -> bool:
    """Whether Muon updates a parameter, by its letters: a matrix that is multiplied with."""
    return is_matrix(dims) and len(space_axes(dims)) == 2 and not {*TABLES} & {*dims}


def _scaled(updates: Any, turned: dict[str, Any], rms: float | None) -> Any:
    """Orthogonal matrices, of root mean square 1 / sqrt(the larger width), by their shapes."""

    def factor(path: str) -> float:
        shape = updates[path].shape
        width_in, width_out = (math.prod(shape[i] for i in axes) for axes in turned[path])
        if rms is None:
            return math.sqrt(max(1, width_out / width_in))
        return rms * math.sqrt(max(width_in, width_out))

    return {path: u * factor(path) if path in turned else u for path, u in updates.items()}
