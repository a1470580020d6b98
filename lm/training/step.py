"""One optimizer step as a pure function: batch -> sums -> gradients -> clipped update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from lm.batch import Batch
from lm.layout import Layout
from lm.mesh.placement import Placement
from lm.models.functional import Functional
from lm.objectives._objective import Objective, Sums
from lm.shapes import Params, Scalar
from lm.training.update import Update


class State(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      params: the model.
      opt_state: what optax keeps.
      step: int32, optimizer steps taken.
    """

    params: Params
    opt_state: Any
    step: jax.Array


class Metrics(NamedTuple):
    """What a step tells, on the host.

    Attributes:
      loss: nats per target of the step's batch, before the update.
      grad_norm: global norm of its gradient, before clipping.
      learning_rate: the rate of the update.
      targets: predictions that counted.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    targets: float

    @classmethod
    def unpacked(cls, packed: jax.Array) -> 'Metrics':
        """The numbers of a step; waits for it."""
        return cls(*np.asarray(packed).tolist())


TakeStep = Callable[[State, Batch], tuple[State, jax.Array]]
"""State and batch -> the state after the step, and its `Metrics` as one fp32 array [4].

One array, since each that the host reads costs a transfer of its own.
"""


def build_step(
    functional: Functional,
    objective: Objective,
    update: Update,
    schedule: optax.Schedule,
    placement: Placement,
    *,
    microbatches: int,
    clip_norm: float | None,
    seed: int,
) -> TakeStep:
    """The step to be jitted, with its first argument donated.

    The loss is a sum over all targets of the batch, divided once by their number, so it is the
    same however rows are split into microbatches or over devices. Dropout keys are a function of
    `seed`, the step and the microbatch. Gradients lie as `placement.gradients` says from the
    moment they exist, and the optimizer updates each part of the state where that part lies.
    """
    layout = placement.layout
    run_key = jax.random.key(seed)
    gradient_of_sum = build_gradient_of_sum(functional, objective)

    def accumulated(params: Params, batch: Batch, key: jax.Array) -> tuple[Sums, Params]:
        if microbatches == 1:
            (loss, weight), gradients = gradient_of_sum(params, batch, key)
            return Sums(loss, weight), laid(gradients, placement.gradients)
        parts = split_rows(batch, microbatches, layout)

        def add(carry: tuple[Sums, Params], part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            totals, gradients = carry
            (loss, weight), more = gradient_of_sum(params, part[0], part[1])
            totals = Sums(totals.loss + loss, totals.weight + weight)
            more = laid(more, placement.gradients)
            added = laid(jax.tree.map(jnp.add, gradients, more), placement.gradients)
            return (totals, added), None

        none = laid(jax.tree.map(jnp.zeros_like, params), placement.gradients)
        zero = (Sums(jnp.float32(0), jnp.float32(0)), none)
        return jax.lax.scan(add, zero, (parts, jax.random.split(key, microbatches)))[0]

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(run_key, state.step)
        totals, gradients = accumulated(state.params, batch, key)
        weight = jnp.maximum(totals.weight, 1)
        gradients = averaged(gradients, weight)
        norm = optax.tree.norm(gradients)
        gradients = laid(clipped(gradients, norm, clip_norm), placement.updated)
        params = laid(state.params, placement.updated)
        params, opt_state = update(gradients, state.opt_state, params)
        params = laid(laid(params, placement.updated), placement.params)
        rate = jnp.float32(schedule(state.step))
        metrics_4 = jnp.stack([totals.loss / weight, norm.astype(jnp.float32), rate, totals.weight])
        return State(params, opt_state, state.step + 1), metrics_4

    return step


def build_gradient_of_sum(functional: Functional, objective: Objective) -> Callable[..., Any]:
    """`(params, batch, dropout key) -> ((summed loss, summed weight), gradients)`."""
    use_dropout = functional.config.dropout > 0

    def sums(params: Params, batch: Batch, key: jax.Array) -> tuple[Scalar, Scalar]:
        logits_BTV = functional.apply(params, batch, dropout_key=key if use_dropout else None)
        return objective.loss(logits_BTV, batch)

    return jax.value_and_grad(sums, has_aux=True)


def averaged(gradients: Params, weight: jax.Array) -> Params:
    """Gradients of a sum over targets as those of their mean; `weight` is their number."""
    return jax.tree.map(lambda g: g / weight.astype(g.dtype), gradients)


def clipped(gradients: Params, norm: jax.Array, clip_norm: float | None) -> Params:
    """Gradients of the global norm `norm`, shrunk to at most `clip_norm` (Pascanu et al. 2013)."""
    if clip_norm is None:
        return gradients
    shrink = jnp.minimum(1, clip_norm / norm)
    return jax.tree.map(lambda g: g * shrink.astype(g.dtype), gradients)


def laid(tree: Params, shardings: dict[str, NamedSharding]) -> Params:
    """Arrays by path, each where `shardings` says."""
    return {
        path: jax.lax.with_sharding_constraint(array, shardings[path])
        for path, array in tree.items()
    }


def split_rows(batch: Batch, parts: int, layout: Layout) -> Batch:
    """[B, T] arrays as [M, B / M, T]; part m takes every M-th row, so no row changes device."""

    def split(x: jax.Array) -> jax.Array:
        x_MBT = x.reshape(-1, parts, x.shape[-1]).swapaxes(0, 1)
        return layout.constrain(x_MBT, 'MBT')

    return jax.tree.map(split, batch)
