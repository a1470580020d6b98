"""A config made into functions: model, objective, optimizer, mesh, and the compiled step."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lm import mesh as meshes
from lm import registry
from lm.batch import Batch, Row
from lm.config import Config
from lm.mesh.mesh import MeshLayout
from lm.models.functional import Functional, functional
from lm.objectives._objective import Objective
from lm.precision.policy import POLICIES, Policy, default_policy_name
from lm.training.step import State, build_step
from lm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Program:
    """Everything a run computes with; holds no state.

    Attributes:
      config: resolved, with the vocabulary's size and the precision policy filled in.
      functional, objective, optimizer, schedule, policy, layout: its parts.
      step: jitted `(state, batch) -> (state, packed metrics)`; donates the state.
      init_state: jitted `() -> state`, each device making only what it keeps.
    """

    config: Config
    functional: Functional
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    policy: Policy
    layout: MeshLayout
    step: jax.stages.Wrapped
    init_state: Callable[[], State]

    @property
    def abstract_state(self) -> State:
        """Shapes, dtypes and shardings of the state, without any of its memory."""
        shapes = jax.eval_shape(self.init_state)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.layout.replicated),
            shapes,
        )

    def abstract_batch(self, row: Row) -> Batch:
        """Shapes, dtypes and shardings of a training batch; `row` is any row of the run."""
        example = self.objective.example(row, np.random.default_rng(0))
        rows = self.config.train.batch_size
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype, sharding=self.layout.rows),
            example,
        )


def resolve_policy(config: Config) -> Config:
    """`config` with `precision.policy=auto` replaced by what it stands for on this machine."""
    if config.precision.policy != 'auto':
        return config
    chosen = replace(config.precision, policy=default_policy_name())  # type: ignore[arg-type]
    return replace(config, precision=chosen)


def build_schedule(config: Config) -> optax.Schedule:
    """Step -> learning rate.

    Raises:
      UserError: the schedule does not fit in the run's steps.
    """
    member = registry.lookup('schedules', config.optim.schedule, 'optim.schedule')
    schedule: optax.Schedule = member.build(config.optim, config.train.steps)
    return schedule


def build_objective(config: Config, vocabulary: Vocabulary) -> Objective:
    """What the run learns to predict.

    Raises:
      UserError: the objective refuses the sequence length.
    """
    member = registry.lookup('objectives', config.objective.name, 'objective.name')
    objective: Objective = member.build(config.objective.options, vocabulary, config.train.seq_len)
    return objective


def build_program(config: Config, vocabulary: Vocabulary) -> Program:
    """The program of a resolved config.

    Raises:
      UserError: the mesh, the schedule or the objective refuses the config.
    """
    policy = POLICIES[config.precision.policy]
    layout = meshes.build(config.mesh, config.train.batch_size, config.train.microbatches)
    model = functional(config.model, policy, layout)
    objective = build_objective(config, vocabulary)
    schedule = build_schedule(config)
    optimizer = registry.lookup('optimizers', config.optim.name, 'optim.name').build(
        config.optim, schedule, model.dims
    )
    step = build_step(
        model,
        objective,
        optimizer,
        schedule,
        layout,
        microbatches=config.train.microbatches,
        clip_norm=config.optim.clip_norm,
        seed=config.train.seed,
    )

    def init_state() -> State:
        params = model.init(jax.random.key(config.train.seed))
        return State(params, optimizer.init(params), jnp.int32(0))

    return Program(
        config,
        model,
        objective,
        optimizer,
        schedule,
        policy,
        layout,
        jax.jit(step, donate_argnums=0, out_shardings=(layout.replicated, layout.replicated)),
        jax.jit(init_state, out_shardings=layout.replicated),
    )
