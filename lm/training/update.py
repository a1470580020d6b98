"""What the optimizer makes of a gradient: the last part of a step."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lm.precision.rounding import stochastically_rounded
from lm.shapes import Params


class Taking(NamedTuple):
    """How an update is taken.

    Attributes:
      finite: false where gradients overflowed: then nothing changes. None: always taken.
      key: chooses how updated parameters are rounded; None: to nearest.
    """

    finite: jax.Array | None = None
    key: jax.Array | None = None

    def part(self, index: jax.Array) -> 'Taking':
        """Of one of the stacked layers."""
        return self if self.key is None else self._replace(key=jax.random.fold_in(self.key, index))


Update = Callable[[Params, Any, Params, Taking], tuple[Params, Any]]
"""Gradients, optimizer state, parameters and how -> parameters and state after the update."""


def plain_update(optimizer: optax.GradientTransformation) -> Update:
    """All parameters at once, each where its gradient and its state lie."""

    def update(
        gradients: Params, opt_state: Any, params: Params, taking: Taking
    ) -> tuple[Params, Any]:
        return taken(optimizer, gradients, opt_state, params, taking)

    return update


def taken(
    optimizer: optax.GradientTransformation,
    gradients: Params,
    opt_state: Any,
    params: Params,
    taking: Taking,
) -> tuple[Params, Any]:
    """Parameters and state after an update, or as they were.

    The arithmetic is fp32 whatever they are held in.
    """
    updates, state = optimizer.update(*(_wide(tree) for tree in (gradients, opt_state, params)))
    moved = {path: params[path].astype(jnp.float32) + u for path, u in updates.items()}
    new_params = _narrow(moved, params, taking.key)
    new_state = _narrow(state, opt_state, taking.key)
    finite = taking.finite
    if finite is None:
        return new_params, new_state
    chosen: tuple[Params, Any] = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), (new_params, new_state), (params, opt_state)
    )
    return chosen


def _wide(tree: Any) -> Any:
    """Numbers narrower than fp32 as fp32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if _is_narrow(x) else x, tree)


def _narrow(tree: Any, like: Any, key: jax.Array | None) -> Any:
    """`tree` in the dtypes of `like`, rounded to nearest or, with a key, by chance."""

    def held(path: Any, x: jax.Array, like: jax.Array) -> jax.Array:
        if key is None or not _is_narrow(like):
            return x.astype(like.dtype)
        # A path has a key of its own, whatever other arrays there are.
        words = jax.tree_util.keystr(path).encode()
        return stochastically_rounded(x, jax.random.fold_in(key, zlib.crc32(words)))

    return jax.tree_util.tree_map_with_path(held, tree, like)


def _is_narrow(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating) and jnp.dtype(x.dtype).itemsize < 4
