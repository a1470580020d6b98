"""Ways to know the order of tokens: a learned table, waves, rotation, a bias by distance."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from lm.config import require
from lm.models.context import Context
from lm.models.spec import Positions, TransformerSpec
from lm.shapes import HiddenBTD


class LearnedPositions(nnx.Module):
    """One vector a place, added to the token's embedding (Devlin et al. 2018, section 3).

    Place p has row p + offset of the table.
    """

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs):
        shape = (spec.position_rows, spec.config.d_model)
        self.offset = spec.positions.offset
        self.table = nnx.Param(spec.init.positions(rngs.params(), shape, jnp.float32), dims='PD')

    def __call__(self, positions_BT: Int[jax.Array, 'B T'], context: Context) -> HiddenBTD:
        """Vectors of the places, [B, T, D].

        Raises:
          UserError: rows longer than the table.
        """
        rows, length = self.table.shape[-2] - self.offset, positions_BT.shape[1]
        require(
            length <= rows,
            f'model.max_positions={rows}: rows of {length} tokens are longer; raise it or cut them',
        )
        row_BT = positions_BT + self.offset
        return context.rows(self.table, row_BT)


def sinusoids(positions_BT: Int[jax.Array, 'B T'], width: int) -> HiddenBTD:
    """Sine and cosine of place / 10000^(2i / D) at 2i and 2i + 1, fp32 [B, T, D].

    Vaswani et al. 2017, section 3.5.
    """
    angle = _angles(positions_BT, frequencies(width, Positions('sinusoidal')))
    pairs = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return pairs.reshape(*positions_BT.shape, width)


class RelativePositions(nnx.Module):
    """A bias on attention's scores by the distance from query to key, one table for all layers.

    Raffel et al. 2020, section 2.1. The distance is that between places in the row, which
    within a segment (a run of neighbours) is the distance between positions.
    """

    def __init__(self, spec: TransformerSpec, rngs: nnx.Rngs, *, causal: bool):
        self.buckets = spec.positions.buckets
        self.max_distance = spec.positions.max_distance
        self.causal = causal
        shape = (self.buckets, spec.config.num_heads)
        self.table = nnx.Param(spec.init.positions(rngs.params(), shape, jnp.float32), dims='RH')

    def __call__(self, length: int) -> Float[jax.Array, 'H T T']:
        """The bias for rows of `length` tokens, fp32 [H, T, S]."""
        bias_HN, place = self._by_distance(length), jnp.arange(length)
        return jnp.take(bias_HN, place[None, :] - place[:, None] + length - 1, axis=1)

    def towards(self, place: Int[jax.Array, ''], length: int) -> Float[jax.Array, 'H 1 S']:
        """The bias of the query at one place of such rows."""
        distance_S = jnp.arange(length) - place
        return jnp.take(self._by_distance(length), distance_S + length - 1, axis=1)[:, None]

    def _by_distance(self, length: int) -> Float[jax.Array, 'H N']:
        """The bias of each distance that rows of `length` have, from 1 - length on."""
        bucket = distance_bucket(
            np.arange(1 - length, length), self.buckets, self.max_distance, causal=self.causal
        )
        return jnp.take(self.table[...].T, bucket, axis=1)


def distance_bucket(
    distance: Int[np.ndarray, 'N'], buckets: int, max_distance: int, *, causal: bool
) -> Int[np.ndarray, 'N']:
    """The row of the relative table for each distance (key place - query place).

    Half of the buckets hold one distance each, from 0; the other half grow as its logarithm
    up to `max_distance`, and the last takes all beyond. Not causal: the upper half of all
    buckets is for keys to the right. As in Mesh TensorFlow's `_relative_position_bucket`, which
    trained the published models. On the host: devices round the logarithm at a bucket's edge
    each in their own way.
    """
    side = np.zeros_like(distance)
    if causal:
        distance = np.maximum(-distance, 0)
    else:
        buckets //= 2
        side = np.where(distance > 0, buckets, 0)
        distance = np.abs(distance)
    exact = buckets // 2
    # Clamped below at `exact`: nearer distances do not use this branch, and log(0) is -inf.
    ratio = np.log(np.maximum(distance, exact) / exact) / math.log(max_distance / exact)
    far = exact + (ratio * (buckets - exact)).astype(distance.dtype)
    return side + np.where(distance < exact, distance, np.minimum(far, buckets - 1))


def linear_bias(heads: int, length: int) -> Float[jax.Array, 'H T T']:
    """ALiBi for rows of `length` tokens: minus slope times distance, fp32 [H, T, S].

    Press et al. 2022, section 3. As with `RelativePositions`, the distance is that between places
    in the row. Seen from both sides, which the paper does not do, it has no sign.
    """
    place = jnp.arange(length, dtype=jnp.float32)
    return _sloping(heads, jnp.abs(place[None, :] - place[:, None]))


def linear_bias_towards(
    heads: int, place: Int[jax.Array, ''], length: int
) -> Float[jax.Array, 'H 1 S']:
    """The same of the query at one place."""
    return _sloping(heads, jnp.abs(jnp.arange(length) - place)[None].astype(jnp.float32))


def _sloping(heads: int, distance_TS: jax.Array) -> jax.Array:
    return -jnp.asarray(slopes(heads), jnp.float32)[:, None, None] * distance_TS


def slopes(heads: int) -> Float[np.ndarray, ' H']:
    """A slope a head: 2^(-8 h / H) for the h-th of H heads, from 1, where H is a power of two.

    Of another number, as in the paper's code (`get_slopes`): those of the power of two below, then
    every second one of the power of two above.
    """
    below: int = 2 ** int(math.log2(heads))
    first = 2.0 ** (-8 / below * np.arange(1, below + 1))
    return np.concatenate([first, 2.0 ** (-4 / below * np.arange(1, 2 * below, 2))])[:heads]


Rotation = tuple[jax.Array, jax.Array]
"""Cosines and sines of each position's angles, both fp32 [B, T, 1, pairs]."""


def rotation(positions_BT: Int[jax.Array, 'B T'], width: int, positions: Positions) -> Rotation:
    """The angles of rotary embedding: position * frequency of each pair."""
    angle = _angles(positions_BT, frequencies(width, positions))[:, :, None]
    return _written(jnp.cos(angle)), _written(jnp.sin(angle))


def _written(x_BT1N: jax.Array) -> jax.Array:
    """The same array, which XLA:CPU would else compute anew wherever it is read.

    In each layer, for each head: of a cosine that costs more than the rotation. A barrier does not
    hold there. A product does, and one with the identity is exact in fp32.
    """

    def product(x_BT1N: jax.Array) -> jax.Array:
        identity_NM = jnp.eye(x_BT1N.shape[-1])
        return jnp.einsum('BTON,NM->BTOM', x_BT1N, identity_NM, precision='highest')

    return jax.lax.platform_dependent(x_BT1N, cpu=product, default=lambda x: x)


def _angles(positions_BT: jax.Array, frequency: np.ndarray) -> jax.Array:
    return positions_BT[:, :, None].astype(jnp.float32) * jnp.asarray(frequency, jnp.float32)


def frequencies(width: int, positions: Positions) -> Float[np.ndarray, ' N']:
    """theta^(-2i / width) for pair i (Su et al. 2021, section 3.4.2), scaled; float64.

    On the host: devices raise to a power each in their own way.
    """
    exact = positions.rope_theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    scaling = positions.rope_scaling
    if scaling.kind == 'none':
        return exact
    if scaling.kind == 'linear':
        return exact / scaling.factor
    # How often each pair turns over the original length, placed between the two factors: 0 and
    # below is divided, 1 and above stays.
    turns = scaling.original_positions * exact / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return keep * exact + (1 - keep) * exact / scaling.factor


def rotate(x_BTHK: Float[jax.Array, 'B T H K'], turn: Rotation) -> Float[jax.Array, 'B T H K']:
    """Turns each pair of a head's entries by its position's angle; the rest behind them stays.

    Pair i of n is (x[i], x[i + n]), as in the released LLaMA weights for `transformers`; the paper
    pairs (x[2i], x[2i + 1]), which is the same up to an order of the rows of W_q and W_k.
    """
    cos, sin = turn
    pairs = cos.shape[-1]
    first, second, rest = jnp.split(x_BTHK.astype(jnp.float32), (pairs, 2 * pairs), axis=-1)
    parts = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(parts, axis=-1).astype(x_BTHK.dtype)
