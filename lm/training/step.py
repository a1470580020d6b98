"""One optimizer step as a pure function: batch -> sums -> gradients -> clipped update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Bool, Float, Int

from lm.batch import Batch
from lm.layout import Layout
from lm.mesh.placement import Placement
from lm.models.functional import Functional
from lm.objectives._objective import Objective, Sums, most_asked, z_penalty
from lm.precision.loss_scale import LossScale, Scaling
from lm.shapes import Params, Scalar
from lm.training.update import Taking, Update


class State(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      params: the model.
      opt_state: what optax keeps.
      step: int32, steps taken, those that were skipped for an overflow included.
      loss_scale: what multiplies the loss; None: nothing does.
    """

    params: Params
    opt_state: Any
    step: jax.Array
    loss_scale: LossScale | None = None


class Spread(NamedTuple):
    """How far the gradients of a step's microbatches lie apart, for the noise scale.

    Attributes:
      square: mean of their squared norms before clipping, each weighted by its targets; the
        gradient of a microbatch is that of the mean over its own targets.
      parts: microbatches that had a target.
    """

    square: float
    parts: float


class Scaled(NamedTuple):
    """Of a step whose loss was scaled.

    Attributes:
      scale: that it was scaled by.
      skipped: steps so far, this one included, that changed nothing since gradients overflowed.
      dynamic: whether the scale changes: 1 or 0.
    """

    scale: float
    skipped: float
    dynamic: float


class Metrics(NamedTuple):
    """What a step tells, on the host.

    Attributes:
      loss: nats per target of the step's batch, before the update.
      grad_norm: global norm of its gradient, before clipping.
      learning_rate: the rate of the update.
      targets: predictions that counted.
      spread: of the gradients of its microbatches, where it is measured.
      scaled: of the scale of the loss, where there is one.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    targets: float
    spread: Spread | None = None
    scaled: Scaled | None = None

    @classmethod
    def unpacked(cls, packed: jax.Array) -> 'Metrics':
        """The numbers of a step; waits for it."""
        loss, norm, rate, targets, *more = np.asarray(packed).tolist()
        spread = Spread(*more[:2]) if len(more) in (2, 5) else None
        scaled = Scaled(*more[-3:]) if len(more) in (3, 5) else None
        return cls(loss, norm, rate, targets, spread, scaled)

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are numbers."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.grad_norm))

    @property
    def skipped(self) -> bool:
        """Whether the step changed nothing since its gradients overflowed."""
        return self.scaled is not None and self.scaled.dynamic == 1 and not self.finite


TakeStep = Callable[[State, Batch], tuple[State, jax.Array]]
"""State and batch -> the state after the step, and its `Metrics` as one fp32 array: [4], with two
numbers more of the spread and three more of the scale, where there are those.

One array, since each that the host reads costs a transfer of its own.
"""

ROUNDING = 2**31 - 1
"""Folded into a run's key it gives the key of roundings, which no step's dropout has."""


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
    scaling: Scaling | None = None,
    stochastic_rounding: bool = False,
) -> TakeStep:
    """The step to be jitted, with its first argument donated.

    The loss is a sum over all targets of the batch, divided once by their number, so it is the
    same however rows are split into microbatches or over devices. Dropout keys are a function of
    `seed`, the step and the microbatch. Gradients lie as `placement.gradients` says from the
    moment they exist, and the optimizer updates each part of the state where that part lies.
    With `noise_scale` it tells the spread of the microbatches too, of which there are several.
    What is minimised is the loss plus `z_loss` times log² Z; the loss that is told is without it.
    Where the loss is scaled dynamically, a step whose gradients overflow leaves parameters and
    optimizer as they are.
    """
    layout = placement.layout
    run_key = jax.random.key(seed)
    gradient_of_sum = build_gradient_of_sum(functional, objective, z_loss)
    taking = build_taking(scaling, run_key, stochastic_rounding)

    def accumulated(
        params: Params, batch: Batch, key: jax.Array, factor: Scalar | None
    ) -> tuple[Sums, Params, Any]:
        if microbatches == 1:
            sums, gradients = gradient_of_sum(params, batch, key, factor)
            return sums, laid(gradients, placement.gradients), None
        parts = split_rows(batch, microbatches, layout)

        def add(carry: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            totals, gradients, spread_2 = carry
            (loss, weight), more = gradient_of_sum(params, part[0], part[1], factor)
            totals = Sums(totals.loss + loss, totals.weight + weight)
            more = laid(more, placement.gradients)
            added = laid(jax.tree.map(jnp.add, gradients, more), placement.gradients)
            if noise_scale:
                # Not of `more`, which would be compiled otherwise, and rounded so, for a reader.
                square = sum_of_squares(grown(added, gradients, factor))
                spread_2 += spread_of(square, weight)
            return (totals, added, spread_2), None

        none = laid(jax.tree.map(jnp.zeros_like, params), placement.gradients)
        zero = (Sums(jnp.float32(0), jnp.float32(0)), none, NO_SPREAD if noise_scale else None)
        return jax.lax.scan(add, zero, (parts, jax.random.split(key, microbatches)))[0]

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(run_key, state.step)
        factor = factor_of(scaling, state)
        totals, gradients, spread_2 = accumulated(state.params, batch, key, factor)
        weight = jnp.maximum(totals.weight, 1)
        gradients = averaged(gradients, weight, factor)
        norm = jnp.sqrt(sum_of_squares(gradients))
        gradients = laid(clipped(gradients, norm, clip_norm), placement.updated)
        params = laid(state.params, placement.updated)
        told_3 = jnp.stack([totals.loss / weight, norm, totals.weight])
        told = with_spread(told_3, spread_2, weight)
        params, opt_state = update(gradients, state.opt_state, params, taking(state, told))
        params = laid(laid(params, placement.updated), placement.params)
        return advanced(state, params, opt_state, told, schedule, scaling)

    return step


def factor_of(scaling: Scaling | None, state: State) -> Scalar | None:
    """What multiplies the sum of the losses of a step's batch; None: nothing."""
    if scaling is None:
        return None
    assert state.loss_scale is not None
    return scaling.factor(state.loss_scale)


def build_taking(
    scaling: Scaling | None, run_key: jax.Array, stochastic_rounding: bool
) -> Callable[[State, jax.Array], Taking]:
    """`(state, what is told) -> how the update is taken`."""
    rounding_key = jax.random.fold_in(run_key, ROUNDING)

    def taking(state: State, told: Float[jax.Array, ' n']) -> Taking:
        skips = scaling is not None and scaling.dynamic
        return Taking(
            is_finite(told) if skips else None,
            jax.random.fold_in(rounding_key, state.step) if stochastic_rounding else None,
        )

    return taking


def is_finite(told: Float[jax.Array, ' n']) -> Bool[jax.Array, '']:
    """Whether loss and gradient norm, which are told first, are numbers: `Metrics.finite`."""
    return jnp.isfinite(told[0]) & jnp.isfinite(told[1])


def advanced(
    state: State,
    params: Params,
    opt_state: Any,
    told: Float[jax.Array, ' n'],
    schedule: optax.Schedule,
    scaling: Scaling | None,
) -> tuple[State, jax.Array]:
    """The state behind a step, and its metrics.

    Args:
      state: before it.
      params, opt_state: after it.
      told: loss, gradient norm, targets, and the spread where it is measured.
      schedule: the rate by the number of updates.
      scaling: how the loss is scaled.
    """
    loss, norm, targets, *spread = told
    kept, updates = state.loss_scale, state.step
    scaled: list[jax.Array] = []
    after = kept
    if scaling is not None and kept is not None:
        updates = updates - kept.skipped
        after = scaling.after(kept, is_finite(told))
        dynamic = jnp.float32(scaling.dynamic)
        scaled = [kept.scale, after.skipped.astype(jnp.float32), dynamic]
    rate = jnp.float32(schedule(updates))
    metrics = jnp.stack([loss, norm, rate, targets, *spread, *scaled])
    return State(params, opt_state, state.step + 1, after), metrics


NO_SPREAD = np.zeros(2, np.float32)


def spread_of(square: Scalar, weight: Scalar) -> Float[jax.Array, '2']:
    """What a microbatch adds to a step's spread: |g|^2 / w and 1, of the gradient g of its sum.

    One without a target adds nothing.
    """
    counts = weight > 0
    added = jnp.where(counts, square / jnp.where(counts, weight, 1), 0)
    return jnp.stack([added, counts]).astype(jnp.float32)


def with_spread(
    told: Float[jax.Array, ' n'],
    spread_2: Float[jax.Array, '2'] | None,
    weight: Scalar,
) -> jax.Array:
    """What is told with the spread behind it, where there is one; `weight` is of the batch."""
    if spread_2 is None:
        return told
    # w |g / w|^2 summed, over the sum of all w: the mean weighted by w.
    return jnp.concatenate([told, spread_2 / jnp.stack([weight, 1])])


def grown(added: Params, gradients: Params, factor: Scalar | None) -> Params:
    """What a microbatch added to gradients that are `factor` times as large."""
    by = 1 if factor is None else factor
    return {path: (x - gradients[path]) / by for path, x in added.items()}


def build_gradient_of_sum(
    functional: Functional, objective: Objective, z_loss: float = 0.0
) -> Callable[..., tuple[Sums, Params]]:
    """`(params, batch, dropout key, factor) -> (sums, gradients)`.

    The gradients are those of the loss and the z-loss, times `factor`; None is 1.
    """
    use_dropout = functional.config.dropout > 0
    most = objective.target_len if functional.splits_rows else most_asked(objective)

    def minimised(
        params: Params, batch: Batch, key: jax.Array, factor: Scalar | None
    ) -> tuple[Scalar, Sums]:
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
        total = sums.loss
        if z_loss:
            total = total + z_loss * z_penalty(logits_BTV, batch)
        return total if factor is None else factor * total, sums

    def gradient_of_sum(
        params: Params, batch: Batch, key: jax.Array, factor: Scalar | None
    ) -> tuple[Sums, Params]:
        of_loss = jax.value_and_grad(minimised, has_aux=True)
        (_, sums), gradients = of_loss(params, batch, key, factor)
        return sums, gradients

    return gradient_of_sum


def asked_places(weights_BT: Float[jax.Array, 'B T'], most: int) -> Int[jax.Array, 'B A']:
    """The places of a row's first A = `most` targets that count, in order, and of others behind."""
    return jax.lax.top_k((weights_BT > 0).astype(jnp.float32), most)[1]


def averaged(gradients: Params, weight: Scalar, factor: Scalar | None) -> Params:
    """Gradients of `factor` times a sum over targets as those of their mean.

    `weight` is the number of targets, and fp32 the arithmetic, whatever the gradients' dtype.
    """
    by = weight if factor is None else weight * factor
    return jax.tree.map(lambda g: (g.astype(jnp.float32) / by).astype(g.dtype), gradients)


def squares(gradient: jax.Array) -> Scalar:
    """The squared norm of a gradient, fp32."""
    return jnp.sum(jnp.square(gradient.astype(jnp.float32)))


def sum_of_squares(gradients: Params) -> Scalar:
    """The squared norm of all gradients together, fp32."""
    return jnp.sum(jnp.stack([squares(g) for g in gradients.values()]))


def clipped(gradients: Params, norm: jax.Array, clip_norm: float | None) -> Params:
    """Gradients of the global norm `norm`, shrunk to at most `clip_norm` (Pascanu et al. 2013)."""
    if clip_norm is None:
        return gradients
    shrink = jnp.minimum(1, clip_norm / norm)
    return jax.tree.map(lambda g: (g.astype(jnp.float32) * shrink).astype(g.dtype), gradients)


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
