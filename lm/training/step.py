"""One optimizer step as a pure function: batch -> sums -> gradients -> clipped update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.layout import Layout
from lm.mesh.placement import Placement
from lm.models.functional import Functional
from lm.objectives._objective import Objective, Sums, most_asked, z_penalty
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


class Spread(NamedTuple):
    """How far the gradients of a step's microbatches lie apart, for the noise scale.

    Attributes:
      square: mean of their squared norms before clipping, each weighted by its targets; the
        gradient of a microbatch is that of the mean over its own targets.
      parts: microbatches that had a target.
    """

    square: float
    parts: float


class Metrics(NamedTuple):
    """What a step tells, on the host.

    Attributes:
      loss: nats per target of the step's batch, before the update.
      grad_norm: global norm of its gradient, before clipping.
      learning_rate: the rate of the update.
      targets: predictions that counted.
      spread: of the gradients of its microbatches, where it is measured.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    targets: float
    spread: Spread | None = None

    @classmethod
    def unpacked(cls, packed: jax.Array) -> 'Metrics':
        """The numbers of a step; waits for it."""
        loss, grad_norm, rate, targets, *spread = np.asarray(packed).tolist()
        return cls(loss, grad_norm, rate, targets, Spread(*spread) if spread else None)


TakeStep = Callable[[State, Batch], tuple[State, jax.Array]]
"""State and batch -> the state after the step, and its `Metrics` as one fp32 array: [4], or [6]
with the spread.

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
    noise_scale: bool = False,
    z_loss: float = 0.0,
) -> TakeStep:
    """The step to be jitted, with its first argument donated.

    The loss is a sum over all targets of the batch, divided once by their number, so it is the
    same however rows are split into microbatches or over devices. Dropout keys are a function of
    `seed`, the step and the microbatch. Gradients lie as `placement.gradients` says from the
    moment they exist, and the optimizer updates each part of the state where that part lies.
    With `noise_scale` it tells the spread of the microbatches too, of which there are several.
    What is minimised is the loss plus `z_loss` times log² Z; the loss that is told is without it.
    """
    layout = placement.layout
    run_key = jax.random.key(seed)
    gradient_of_sum = build_gradient_of_sum(functional, objective, z_loss)

    def accumulated(params: Params, batch: Batch, key: jax.Array) -> tuple[Sums, Params, Any]:
        if microbatches == 1:
            sums, gradients = gradient_of_sum(params, batch, key)
            return sums, laid(gradients, placement.gradients), None
        parts = split_rows(batch, microbatches, layout)

        def add(carry: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            totals, gradients, spread_2 = carry
            (loss, weight), more = gradient_of_sum(params, part[0], part[1])
            totals = Sums(totals.loss + loss, totals.weight + weight)
            more = laid(more, placement.gradients)
            added = laid(jax.tree.map(jnp.add, gradients, more), placement.gradients)
            if noise_scale:
                # Not of `more`, which would be compiled otherwise, and rounded so, for a reader.
                grown = jax.tree.map(jnp.subtract, added, gradients)
                spread_2 += spread_of(optax.tree.norm(grown, squared=True), weight)
            return (totals, added, spread_2), None

        none = laid(jax.tree.map(jnp.zeros_like, params), placement.gradients)
        zero = (Sums(jnp.float32(0), jnp.float32(0)), none, NO_SPREAD if noise_scale else None)
        return jax.lax.scan(add, zero, (parts, jax.random.split(key, microbatches)))[0]

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(run_key, state.step)
        totals, gradients, spread_2 = accumulated(state.params, batch, key)
        weight = jnp.maximum(totals.weight, 1)
        gradients = averaged(gradients, weight)
        norm = optax.tree.norm(gradients)
        gradients = laid(clipped(gradients, norm, clip_norm), placement.updated)
        params = laid(state.params, placement.updated)
        params, opt_state = update(gradients, state.opt_state, params)
        params = laid(laid(params, placement.updated), placement.params)
        rate = jnp.float32(schedule(state.step))
        metrics_4 = jnp.stack([totals.loss / weight, norm.astype(jnp.float32), rate, totals.weight])
        return State(params, opt_state, state.step + 1), with_spread(metrics_4, spread_2, weight)

    return step


NO_SPREAD = np.zeros(2, np.float32)


def spread_of(square: Scalar, weight: Scalar) -> Float[jax.Array, '2']:
    """What a microbatch adds to a step's spread: |g|^2 / w and 1, of the gradient g of its sum.

    One without a target adds nothing.
    """
    counts = weight > 0
    added = jnp.where(counts, square / jnp.where(counts, weight, 1), 0)
    return jnp.stack([added, counts]).astype(jnp.float32)


def with_spread(
    metrics: Float[jax.Array, ' n'], spread_2: Float[jax.Array, '2'] | None, weight: Scalar
) -> jax.Array:
    """The metrics with the spread behind them, where there is one; `weight` is of the batch."""
    if spread_2 is None:
        return metrics
    # w |g / w|^2 summed, over the sum of all w: the mean weighted by w.
    return jnp.concatenate([metrics, spread_2 / jnp.stack([weight, 1])])


def build_gradient_of_sum(
    functional: Functional, objective: Objective, z_loss: float = 0.0
) -> Callable[..., tuple[Sums, Params]]:
    """`(params, batch, dropout key) -> (sums, gradients)`, these of the loss and the z-loss."""
    use_dropout = functional.config.dropout > 0
    most = objective.target_len if functional.splits_rows else most_asked(objective)

    def minimised(params: Params, batch: Batch, key: jax.Array) -> tuple[Scalar, Sums]:
        asked_BA = None
        if most < objective.target_len:
            asked_BA = asked_places(jnp.asarray(batch.loss_weights), most)
            batch = batch._replace(
                targets=jnp.take_along_axis(jnp.asarray(batch.targets), asked_BA, axis=1),
                loss_weights=jnp.take_along_axis(jnp.asarray(batch.loss_weights), asked_BA, axis=1),
            )
        logits_BTV = functional.apply(
            params,
            batch,
            dropout_key=key if use_dropout else None,
            asked_BA=asked_BA,
            dtype=functional.logits_dtype,
        )
        sums = objective.loss(logits_BTV, batch)
        if not z_loss:
            return sums.loss, sums
        return sums.loss + z_loss * z_penalty(logits_BTV, batch), sums

    def gradient_of_sum(params: Params, batch: Batch, key: jax.Array) -> tuple[Sums, Params]:
        (_, sums), gradients = jax.value_and_grad(minimised, has_aux=True)(params, batch, key)
        return sums, gradients

    return gradient_of_sum


def asked_places(weights_BT: Float[jax.Array, 'B T'], most: int) -> Int[jax.Array, 'B A']:
    """The places of a row's first A = `most` targets that count, in order, and of others behind."""
    return jax.lax.top_k((weights_BT > 0).astype(jnp.float32), most)[1]


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
