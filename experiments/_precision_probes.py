"""What is measured on live arrays: bytes a parameter of a policy, and the range of gradients."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lm
from lm.batch import Batch, Row, stack
from lm.config import Config
from lm.data.mixture import Mixture, prepare_mixture
from lm.data.pipeline import batches
from lm.objectives._objective import Objective, build_objective
from lm.planning.recipes import recipe_of
from lm.shapes import Params
from lm.training.evaluate import mixed_rows
from lm.training.program import build_program
from lm.training.step import build_gradient_of_sum
from lm.vocabulary import Vocabulary

GROUPS = ('weights', 'gradients', 'optimizer')
BINS = np.arange(-100, 11)
"""Powers of two between which magnitudes are counted."""
FP16_SMALLEST = -24
"""log2 of fp16's smallest subnormal number."""
SCALE = 16
"""log2 of the loss scale that fp16_mixed begins with."""
QUICKLY: dict[str, Any] = {'xla_backend_optimization_level': 0}
"""Arrays are made for their dtypes: how fast does not matter."""


def planned_bytes(config: Config) -> dict[str, float]:
    """Bytes a parameter by group, as `lm plan` counts them."""
    recipe = recipe_of(config)
    return dict(zip(GROUPS, (recipe.weights, recipe.gradients, recipe.optimizer), strict=True))


def measured_bytes(config: Config, vocabulary: Vocabulary) -> dict[str, float]:
    """Bytes a parameter by group, of arrays that are there: a state, and gradients of one batch.

    Parameters are counted as the plan does, the vocabulary's padding included. What belongs to no
    parameter (the step, an optimizer's counter, the loss scale) is left out.

    Args:
      config: resolved, with its vocabulary's size and its policy.
      vocabulary: the special ids.
    """
    import jax

    program = build_program(config, vocabulary)
    init: Any = program.init_state  # jitted
    state = init.lower().compile(compiler_options=QUICKLY)()
    gradient_of_sum = build_gradient_of_sum(program.functional, program.objective)
    batch = _any_batch(program.objective, config)
    given = (state.params, program.place(batch), jax.random.key(0), None)
    _, gradients = jax.jit(gradient_of_sum).lower(*given).compile(compiler_options=QUICKLY)(*given)
    kept = [
        leaf
        for keys, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if program.placement.owner(keys) is not None
    ]
    numbers = sum(x.size for x in state.params.values())
    sizes = (sum(x.nbytes for x in jax.tree.leaves(x)) for x in (state.params, gradients, kept))
    return {group: size / numbers for group, size in zip(GROUPS, sizes, strict=True)}


def _any_batch(objective: Objective, config: Config) -> Batch:
    """A batch of one token over and over."""
    size, rng = objective.row_len, np.random.default_rng(0)
    ones = np.ones(size, np.int32)
    row = Row(ones * (config.model.tokens - 1), ones, np.arange(size, dtype=np.int32), ones * 0)
    return stack([objective.example(row, rng) for _ in range(config.train.batch_size)])


@dataclass(frozen=True)
class Magnitudes:
    """Of the numbers of a gradient that are not 0.

    Attributes:
      counts: of each of `BINS`; what is smaller than all of these is in the first.
      nonzero: how many there are.
      below: share that is smaller than fp16's smallest number.
      below_scaled: the same, of the gradient times 2**16.
    """

    counts: tuple[int, ...]
    nonzero: int
    below: float
    below_scaled: float


def magnitudes(values: np.ndarray) -> Magnitudes:
    """How the magnitudes of `values`, fp32 of any shape, are spread."""
    log2 = np.log2(np.abs(values[values != 0]).astype(np.float64))
    counts, _ = np.histogram(np.clip(log2, BINS[0], None), BINS)
    return Magnitudes(
        tuple(counts.tolist()),
        log2.size,
        float(np.mean(log2 < FP16_SMALLEST)) if log2.size else math.nan,
        float(np.mean(log2 < FP16_SMALLEST - SCALE)) if log2.size else math.nan,
    )


def gradient_range(workdir: Path) -> dict[str, Magnitudes]:
    """Magnitudes of a finished run's gradients, of the mean loss of its next training batch.

    Returns:
      `weights`, all of them together, and `logits`: of these the backward pass begins, and each
      is the probability (less 1 at the target) over the number of targets.
    """
    import jax
    import jax.numpy as jnp

    model = lm.load(workdir)
    mixture = prepare_mixture(model.config.data, model.config.model.vocab_size)
    objective = build_objective(model.config, mixture.tokenizer.vocabulary)
    batch = _next_batch(model.config, objective, mixture)

    @jax.jit
    def gradients(params: Params, offset_BTV: jax.Array) -> Any:
        def mean_loss(params: Params, offset_BTV: jax.Array) -> jax.Array:
            logits_BTV = model.functional.apply(params, batch) + offset_BTV
            sums = objective.loss(logits_BTV, batch)
            return sums.loss / sums.weight

        return jax.grad(mean_loss, argnums=(0, 1))(params, offset_BTV)

    like = jax.eval_shape(functools.partial(model.functional.apply, batch=batch), model.params)
    of_weights, of_logits_BTV = gradients(model.params, jnp.zeros(like.shape, like.dtype))
    flat = np.concatenate([np.ravel(x) for x in of_weights.values()])
    return {'weights': magnitudes(flat), 'logits': magnitudes(np.asarray(of_logits_BTV))}


def _next_batch(config: Config, objective: Objective, mixture: Mixture) -> Batch:
    """The batch of the step behind the run's last."""
    train = config.train
    made = batches(
        mixed_rows(objective, mixture, train.seed),
        objective.example,
        batch_size=train.batch_size,
        start_row=train.steps * train.batch_size,
        seed=train.seed,
        threads=0,
    )
    return next(made)
