"""The optimizer step by `shard_map`, every collective written out: a second backend, and an oracle.

ZeRO-2 and ZeRO-3 (Rajbhandari et al. 2020, sections 5.2 and 5.3) on the axes replica and fsdp. It
shares the mathematics with `step.py` (sums, mean, clipping), and none of how gradients are laid.
The update alone is outside: an optimizer that looks at whole matrices would see parts of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from lm.batch import Batch
from lm.layout import Layout
from lm.mesh.axes import ROWS
from lm.mesh.explicit import gathered, own_part, scattered, split_axis
from lm.mesh.placement import Placement
from lm.models.functional import Functional
from lm.objectives._objective import Objective
from lm.precision.loss_scale import Scaling
from lm.shapes import Params, Scalar
from lm.training.step import (
    NO_SPREAD,
    State,
    TakeStep,
    advanced,
    averaged,
    build_gradient_of_sum,
    build_taking,
    clipped,
    factor_of,
    grown,
    laid,
    split_rows,
    spread_of,
    squares,
    with_spread,
)  # fmt: skip
from lm.training.update import Update


def build_explicit_step(
    functional: Functional,
    objective: Objective,
    update: Update,
    schedule: optax.Schedule,
    placement: Placement,
    *,
    microbatches: int,
    clip_norm: float | None,
    seed: int,
    noise_scale: bool = False,
    z_loss: float = 0.0,
    scaling: Scaling | None = None,
    stochastic_rounding: bool = False,
) -> TakeStep:
    """The step to be jitted; the same numbers as `build_step`, but for dropout.

    And under fp8, whose scales backwards are of a device's own rows.

    Args:
      functional: the model on an `ExplicitLayout`.
      objective, update, schedule: as of `build_step`.
      placement: of zero2 or zero3, without tensor and seq.
      microbatches: each device accumulates over this many parts of its rows.
      clip_norm: the global gradient norm is clipped to this.
      seed: decides dropout, on each device another.
      noise_scale: tell the spread of the microbatches too.
      z_loss, scaling, stochastic_rounding: as of `build_step`.
    """
    layout = placement.layout
    whole_params = layout.stage < 3
    splits = {path: sharding.spec for path, sharding in placement.updated.items()}
    gradient_of_sum = build_gradient_of_sum(functional, objective, z_loss)
    taking = build_taking(scaling, jax.random.key(seed), stochastic_rounding)

    def reduced(gradients: Params) -> Params:
        """Sums over all devices, each keeping its part; of a gathered weight it is one already."""
        parts = {
            path: g
            if not whole_params and split_axis(splits[path]) is not None
            else scattered(g, splits[path])
            for path, g in gradients.items()
        }
        return jax.lax.psum(parts, 'replica')

    def accumulated(params: Params, batch: Batch, key: jax.Array, factor: Scalar | None) -> Any:
        if microbatches == 1:
            (loss, weight), gradients = gradient_of_sum(params, batch, key, factor)
            return loss, weight, reduced(gradients), None
        parts = split_rows(batch, microbatches, Layout())

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            loss, weight, gradients, spread_2 = carry
            (more_loss, more_weight), more = gradient_of_sum(params, part[0], part[1], factor)
            added = jax.tree.map(jnp.add, gradients, reduced(more))
            if noise_scale:
                square = _squares(grown(added, gradients, factor), splits)
                spread_2 += spread_of(square, jax.lax.psum(more_weight, ROWS))
            return (loss + more_loss, weight + more_weight, added, spread_2), None

        none = jax.tree.map(jnp.zeros_like, updated_part(params))
        zero = (jnp.float32(0), jnp.float32(0), none, NO_SPREAD if noise_scale else None)
        keys = jax.random.split(key, microbatches)
        return jax.lax.scan(add, zero, (parts, keys))[0]

    def updated_part(params: Params) -> Params:
        """Of the parameters as they lie, what this device updates."""
        if not whole_params:
            return params
        return {path: own_part(x, splits[path]) for path, x in params.items()}

    def gradients_of(
        params: Params, batch: Batch, step: jax.Array, factor: Scalar | None
    ) -> tuple[Params, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), step)
        key = jax.random.fold_in(key, jax.lax.axis_index(ROWS))
        loss, weight, gradients, spread_2 = accumulated(params, batch, key, factor)
        loss, targets = jax.lax.psum((loss, weight), ROWS)
        weight = jnp.maximum(targets, 1)
        gradients = averaged(gradients, weight, factor)
        norm = jnp.sqrt(_squares(gradients, splits))
        told_3 = jnp.stack([loss / weight, norm, targets])
        return clipped(gradients, norm, clip_norm), with_spread(told_3, spread_2, weight)

    def whole(params: Params) -> Params:
        return {path: gathered(x, splits[path]) for path, x in params.items()}

    def mapped(function: Callable[..., Any], into: Any, out: Any) -> Callable[..., Any]:
        return jax.shard_map(
            function, mesh=layout.mesh, in_specs=into, out_specs=out, check_vma=False
        )

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        lies = {path: sharding.spec for path, sharding in placement.params.items()}
        rows, all_same = jax.tree.map(lambda _: PartitionSpec(ROWS), batch), PartitionSpec()
        into = (lies, rows, all_same, all_same)
        gradients, told = mapped(gradients_of, into, (splits, all_same))(
            state.params, batch, state.step, factor_of(scaling, state)
        )
        params = laid(state.params, placement.updated)
        params, opt_state = update(gradients, state.opt_state, params, taking(state, told))
        params = laid(params, placement.updated)
        if whole_params:
            params = mapped(whole, (splits,), lies)(params)
        return advanced(state, params, opt_state, told, schedule, scaling)

    return step


def _squares(gradients: Params, splits: dict[str, PartitionSpec]) -> jax.Array:
    """The squared global norm, of gradients of which each device has a part."""
    split, whole = jnp.float32(0), jnp.float32(0)
    for path, g in gradients.items():
        square = squares(g)
        if split_axis(splits[path]) is None:
            whole += square
        else:
            split += square
    return jax.lax.psum(split, 'fsdp') + whole
