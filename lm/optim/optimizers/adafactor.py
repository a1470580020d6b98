"""Adafactor: of a matrix's squared gradients only row and column means (Shazeer & Stern 2018).

Algorithms 4 and 5. Matrices are factored by their letters, whatever their sizes: attention's are
D x HK and HK x D. Each layer of a stacked parameter has statistics, a clipping and a scale of its
own, which optax's, going by the number of axes and the largest two, does not give it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lm.config import OptimConfig, require, setting
from lm.optim._decay import decays
from lm.shapes import STACKED, Dims, is_matrix, space_axes

if TYPE_CHECKING:
    import jax
    import optax

KEEPS_FP32 = True
"""Means of squares are fp32, whatever the parameters are."""


@dataclass(frozen=True)
class Options:
    """Of the second moment and of the update.

    `optim.eps` squared is added to squared gradients: the paper's 1e-30 is an `eps` of 1e-15.
    """

    decay_power: float = setting(0.8, 'the decay rate of step t is 1 - t ** -decay_power')
    clip_rms: float | None = setting(1.0, "an update's root mean square is at most this; none: any")
    relative: bool = setting(True, 'a step is learning rate x root mean square of the parameter')
    smallest_rms: float = setting(1e-3, 'what that root mean square is taken for at least')

    def __post_init__(self) -> None:
        for name in ('decay_power', 'clip_rms', 'smallest_rms'):
            value = getattr(self, name)
            require(value is None or value > 0, f'optim.options.{name}={value}: must be positive')


class Statistics(NamedTuple):
    """Running means of squared gradients, by path.

    Attributes:
      steps: int32, how many were taken.
      rows: of a matrix, over its second space.
      columns: of a matrix, over its first space.
      entries: of what is no matrix, each entry's own.
    """

    steps: 'jax.Array'
    rows: dict[str, 'jax.Array']
    columns: dict[str, 'jax.Array']
    entries: dict[str, 'jax.Array']


def build(
    config: OptimConfig, learning_rate: 'optax.Schedule', dims: Dims
) -> 'optax.GradientTransformation':
    """Adafactor on all parameters; the decay, times the learning rate, on matrices only.

    Raises:
      UserError: the square of `eps` is no number of fp32.
    """
    import optax

    require(config.eps >= 1e-18, f'optim.eps={config.eps}: adafactor squares it; at least 1e-18')
    return optax.chain(
        _scale_by_statistics(config.eps**2, config.options, dims),
        optax.add_decayed_weights(config.weight_decay, mask=decays(dims)),
        optax.scale_by_learning_rate(learning_rate),
    )


def kept(options: Options, dims: str) -> tuple[str, ...]:
    """Row and column means of a matrix, such as `LD` and `LHK` of `LDHK`; of the rest all."""
    del options
    if not factored(dims):
        return (dims,)
    return tuple(
        ''.join(letter for i, letter in enumerate(dims) if i not in space)
        for space in reversed(space_axes(dims))
    )


def factored(dims: str) -> bool:
    """Whether a parameter is a matrix, of which rows and columns are kept."""
    return is_matrix(dims) and len(space_axes(dims)) == 2


def _scale_by_statistics(
    eps: float, options: Options, dims: Dims
) -> 'optax.GradientTransformation':
    import jax
    import jax.numpy as jnp
    import optax

    spaces = {path: space_axes(letters) for path, letters in dims.items() if factored(letters)}

    def init(params: Any) -> Statistics:
        def zeros(path: str, over: int) -> jax.Array:
            gone = spaces[path][over]
            return jnp.zeros([n for i, n in enumerate(params[path].shape) if i not in gone])

        return Statistics(
            jnp.int32(0),
            rows={path: zeros(path, over=1) for path in spaces},
            columns={path: zeros(path, over=0) for path in spaces},
            entries={path: jnp.zeros(x.shape) for path, x in params.items() if path not in spaces},
        )

    def update(updates: Any, state: Statistics, params: Any = None) -> tuple[Any, Statistics]:
        steps = optax.safe_increment(state.steps)
        decay = 1 - jnp.float32(steps) ** -options.decay_power
        new = Statistics(steps, {}, {}, {})

        def mean(old: jax.Array, square: jax.Array, axes: tuple[int, ...]) -> jax.Array:
            return decay * old + (1 - decay) * square.mean(axes)

        def scaled(path: str, gradient: jax.Array) -> jax.Array:
            x = gradient.astype(jnp.float32)
            square = jnp.square(x) + eps
            if path in spaces:
                first, second = spaces[path]
                new.rows[path] = mean(state.rows[path], square, second)
                new.columns[path] = mean(state.columns[path], square, first)
                rows = jnp.expand_dims(new.rows[path], second)
                columns = jnp.expand_dims(new.columns[path], first)
                # One after the other: the product of two small numbers would vanish.
                x = x * (rows / rows.mean(first, keepdims=True)) ** -0.5 * columns**-0.5
            else:
                new.entries[path] = mean(state.entries[path], square, ())
                x = x * new.entries[path] ** -0.5
            if options.clip_rms is not None:
                x = x / jnp.maximum(1, rms(path, x) / options.clip_rms)
            if options.relative:
                parameter = params[path].astype(jnp.float32)
                x = x * jnp.maximum(options.smallest_rms, rms(path, parameter))
            return x.astype(gradient.dtype)

        def rms(path: str, x: jax.Array) -> jax.Array:
            axes = [i for i, letter in enumerate(dims[path]) if letter not in STACKED]
            return jnp.sqrt(jnp.square(x).mean(axes, keepdims=True))

        return {path: scaled(path, gradient) for path, gradient in updates.items()}, new

    return optax.GradientTransformation(init, update)
