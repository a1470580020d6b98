"""Stochastic rounding: up or down by chance, so that the mean is the exact value."""

import jax
import jax.numpy as jnp
from jaxtyping import UInt32


def stochastically_rounded(x: jax.Array, key: jax.Array) -> jax.Array:
    """fp32 numbers as bf16, each rounded to one of its two neighbours.

    The nearer one is the likelier, in proportion (Gupta et al. 2015, section 3). bf16 is the upper
    half of an fp32 number: what is cut off, over 2^16, is the chance of the neighbour that is
    farther from zero. Numbers that bf16 has stay, as do infinities and nan.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    upper = (bits + _noise(key, x.shape)) & jnp.uint32(0xFFFF0000)
    rounded = jax.lax.bitcast_convert_type(upper, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _noise(key: jax.Array, shape: tuple[int, ...]) -> UInt32[jax.Array, '...']:
    """Numbers from 0 to 2^16 - 1, a function of the key and the place.

    A hash of the place, which a compiler computes where it is used, whatever part of an array a
    device has; `jax.random.bits` has XLA hold 8 bytes a number and more, of all arrays at once.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    place = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return _mixed(_mixed(place ^ first) + second) >> 16


def _mixed(x: UInt32[jax.Array, '...']) -> UInt32[jax.Array, '...']:
    """A bijection of 32 bits each of whose inputs flips each output about half the time.

    Shifts and factors as in C. Wellons, "Prospecting for Hash Functions" (2018), lowbias32.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
