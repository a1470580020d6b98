"""Stochastic rounding: up or down by chance, so that the mean is the exact value."""

import jax
import jax.numpy as jnp


def stochastically_rounded(x: jax.Array, key: jax.Array) -> jax.Array:
    """fp32 numbers as bf16, each rounded to one of its two neighbours.

    The nearer one is the likelier, in proportion (Gupta et al. 2015, section 3). bf16 is the upper
    half of an fp32 number: what is cut off, over 2^16, is the chance of the neighbour that is
    farther from zero. Numbers that bf16 has stay, as do infinities and nan.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    upper = (bits + noise) & jnp.uint32(0xFFFF0000)
    rounded = jax.lax.bitcast_convert_type(upper, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)
