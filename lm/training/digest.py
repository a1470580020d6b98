"""Checksums of arrays, computed where they lie: a checkpoint's proof against silent damage."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lm.mesh.host_offload import is_in_host_memory, on_device

Sums = tuple[jax.Array, jax.Array]


def digests(tree: Any) -> dict[str, list[int]]:
    """Two 32-bit numbers a leaf, by the leaf's path; the same on every mesh.

    The first is sum of word_i x (2 i + 1) modulo 2**32: the factor is odd, hence invertible, so
    any change confined to one word changes it. The second sums a mixed hash of each word and its
    place, for changes that touch many. Integer sums do not depend on their order, so sharded
    arrays need no gathering. Orbax itself restores flipped bits without a word.
    """
    found = _measured(_digest, tree)
    return {path: np.asarray(leaf).tolist() for path, leaf in by_path(found).items()}


def not_finite(tree: Any) -> list[str]:
    """The paths of the leaves that hold a nan or an infinity."""
    flags = jax.device_get(_measured(_finite, tree))
    return [path for path, finite in by_path(flags).items() if not finite]


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their path: `params/embedding/tokens`, `opt_state/0/mu/...`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_words(path): leaf for path, leaf in flat}


def path_words(path: Any) -> str:
    """A leaf's path in a tree: `opt_state/0/mu/...`."""
    return jax.tree_util.keystr(path, simple=True, separator='/')


def _on_all(tree: Any) -> NamedSharding | None:
    """Where every process can read a result: on all devices of the mesh, if there is one."""
    lie = (getattr(leaf, 'sharding', None) for leaf in jax.tree.leaves(tree))
    mesh = next((sharding.mesh for sharding in lie if isinstance(sharding, NamedSharding)), None)
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def _measured(measure: Callable[[jax.Array], jax.Array], tree: Any) -> Any:
    """`measure` of each leaf. Leaves in the host's memory come to the device one after another."""
    lies = _on_all(tree)
    leaves, structure = jax.tree.flatten(tree)
    off = [is_in_host_memory(leaf) for leaf in leaves]
    together = _of_all(measure, lies)([x for x, away in zip(leaves, off, strict=True) if not away])
    alone = _of_one_from_host(measure, lies)
    found = iter(together)
    measured = [
        jax.block_until_ready(alone(x)) if away else next(found)
        for x, away in zip(leaves, off, strict=True)
    ]
    return jax.tree.unflatten(structure, measured)


@functools.cache
def _of_all(
    measure: Callable[[jax.Array], jax.Array], lies: NamedSharding | None
) -> Callable[[list[Any]], list[jax.Array]]:
    return jax.jit(lambda leaves: [measure(x) for x in leaves], out_shardings=lies)


@functools.cache
def _of_one_from_host(
    measure: Callable[[jax.Array], jax.Array], lies: NamedSharding | None
) -> Callable[[Any], jax.Array]:
    return jax.jit(lambda x: measure(on_device(x)), out_shardings=lies)


def _finite(x: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(x))


def _digest(x: jax.Array) -> jax.Array:
    words = jax.lax.bitcast_convert_type(x, _WORDS[x.dtype.itemsize]).astype(jnp.uint32)
    # In the array's own shape: flattened, a sharded one would be gathered.
    place, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(
            stride % 2**32
        )
        stride *= words.shape[axis]
    # Both sums in one reduction: of two XLA:CPU would first make arrays of what they add up.
    terms = (words * (2 * place + 1), _mix(words ^ _mix(place)))
    zeros = (jnp.uint32(0), jnp.uint32(0))
    return jnp.stack(jax.lax.reduce(terms, zeros, _added, tuple(range(x.ndim))))


def _added(one: Sums, other: Sums) -> Sums:
    return one[0] + other[0], one[1] + other[1]


def _mix(h: jax.Array) -> jax.Array:
    """MurmurHash3's 32-bit finalizer (Appleby 2011): a bijection that spreads every bit."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
