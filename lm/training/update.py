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
    """Parameters and state after an update, or as they were."""
    updates, new_state = optimizer.update(gradients, opt_state, params)
    new_params = {path: _updated(path, params[path], u, taking.key) for path, u in updates.items()}
    finite = taking.finite
    if finite is None:
        return new_params, new_state
    chosen: tuple[Params, Any] = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), (new_params, new_state), (params, opt_state)
    )
    return chosen


def _updated(path: str, param: jax.Array, update: jax.Array, key: jax.Array | None) -> jax.Array:
    if key is None:
        moved: jax.Array = optax.apply_updates(param, update)
        return moved
    # A path has a key of its own, whatever other parameters there are.
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    exact = param.astype(jnp.float32) + update.astype(jnp.float32)
    return stochastically_rounded(exact, own)
