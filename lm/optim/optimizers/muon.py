"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, "Definition").

It turns the matrices of the layers, attention's as D x HK and HK x D; tables that are looked up,
the output matrix and vectors are AdamW's. As optax's it corrects the bias of both terms of
Nesterov's momentum; optax's own cannot be told where a mesh should turn a matrix. The iteration is
in the dtype that updates are computed in, fp32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lm.config import OptimConfig, require, setting
from lm.optim.optimizers import adamw
from lm.shapes import Dims, is_matrix, space_axes

if TYPE_CHECKING:
    import jax
    import optax

    from lm.layout import Layout

LOOKS_AT_WHOLE = True
"""`build` takes the layout, by which each matrix is brought together to be turned."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial of Newton-Schulz."""
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
    config: OptimConfig,
    learning_rate: 'optax.Schedule',
    dims: Dims,
    layout: 'Layout | None' = None,
) -> 'optax.GradientTransformation':
    """Muon on the layers' matrices, AdamW on the rest; both decay matrices, times their rate.

    Without a layout all is on one device.
    """
    import optax

    from lm.layout import Layout

    options = config.options
    turned = {path: space_axes(letters) for path, letters in dims.items() if turns(letters)}
    muon = optax.chain(
        _turned_momentum(config, dims, turned, layout or Layout()),
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


def _turned_momentum(
    config: OptimConfig, dims: Dims, turned: dict[str, Any], layout: 'Layout'
) -> 'optax.GradientTransformation':
    """Each matrix's momentum, orthogonalised; its state is that of optax's."""
    import jax
    import jax.numpy as jnp
    import optax

    beta, nesterov = config.options.momentum, config.options.nesterov

    def init(params: Any) -> optax.contrib.MuonState:
        zeros = optax.tree.zeros_like(params)
        return optax.contrib.MuonState(jnp.int32(0), zeros, jnp.asarray(COEFFICIENTS))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        count = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(updates, state.mu, beta, 1)
        ahead = optax.tree.bias_correction(mean, beta, count)
        if nesterov:
            ahead = jax.tree.map(
                lambda m, g: beta * m + (1 - beta) * g,
                optax.tree.bias_correction(mean, beta, optax.safe_increment(count)),
                optax.tree.bias_correction(updates, beta, count),
            )

        def orthogonal(x_NXY: jax.Array) -> jax.Array:
            return newton_schulz(x_NXY, state.ns_coeffs, config.options.iterations, config.eps)

        # What is AdamW's has no leaf here, but its path.
        ahead = {
            path: _by_matrix(orthogonal, x, dims[path], turned[path], layout)
            if path in turned
            else x
            for path, x in ahead.items()
        }
        return ahead, optax.contrib.MuonState(count, mean, state.ns_coeffs)

    return optax.GradientTransformation(init, update)


def _by_matrix(
    function: Callable[['jax.Array'], 'jax.Array'],
    x: 'jax.Array',
    dims: str,
    spaces: Any,
    layout: 'Layout',
) -> 'jax.Array':
    """`function` of the matrices [N, X, Y] that a parameter is, wherever its layers are stacked."""
    first, second = spaces
    stacked = tuple(i for i in range(x.ndim) if i not in (*first, *second))
    order = (*stacked, *first, *second)
    sorted_x = x.transpose(order)
    axes = sorted_x.shape[len(stacked) :]
    widths = tuple(math.prod(x.shape[i] for i in space) for space in spaces)

    def of_matrices(x: 'jax.Array') -> 'jax.Array':
        return function(x.reshape(-1, *widths)).reshape(x.shape)

    letters = 'L' + ''.join(dims[i] for i in (*first, *second))
    done = layout.apart(of_matrices, sorted_x.reshape(-1, *axes), letters)
    back = tuple(sorted(range(x.ndim), key=order.__getitem__))
    return done.reshape(sorted_x.shape).transpose(back)


def newton_schulz(
    x_NXY: 'jax.Array', coefficients: 'jax.Array', iterations: int, eps: float
) -> 'jax.Array':
    """Matrices with their singular values brought near 1: X <- a X + (b A + c A A) X, A = X X^T.

    In the dtype of the matrices; the smaller of both widths is that of A.
    """
    import jax.numpy as jnp

    a, b, c = coefficients.astype(x_NXY.dtype)
    wide = x_NXY.shape[1] <= x_NXY.shape[2]
    x = x_NXY if wide else x_NXY.swapaxes(1, 2)
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + eps)
    for _ in range(iterations):
        gram = x @ x.swapaxes(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.swapaxes(1, 2)


def _scaled(updates: Any, turned: dict[str, Any], rms: float | None) -> Any:
    """Orthogonal matrices, of root mean square 1 / sqrt(the larger width), by their shapes."""

    def factor(path: str) -> float:
        shape = updates[path].shape
        width_in, width_out = (math.prod(shape[i] for i in axes) for axes in turned[path])
        if rms is None:
            return math.sqrt(max(1, width_out / width_in))
        return rms * math.sqrt(max(width_in, width_out))

    return {path: u * factor(path) if path in turned else u for path, u in updates.items()}
