"""A config made into functions: model, objective, optimizer, mesh, and the compiled step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lm import mesh as meshes
from lm import registry
from lm.attention.kernel import Kernel, chip_of, choose
from lm.batch import Batch, Row
from lm.config import Config, require
from lm.mesh.explicit import explicit_layout
from lm.mesh.held_rows import HeldRows
from lm.mesh.host_offload import require_host_memory
from lm.mesh.mesh import MeshLayout
from lm.mesh.placement import Placement, place
from lm.models.functional import Functional, functional
from lm.objectives._objective import Objective, build_objective, most_asked
from lm.planning.rows import attention_uses, attention_width
from lm.precision.loss_scale import Scaling, scaling_of
from lm.precision.policy import Policy, default_policy_name, policy_of
from lm.shapes import Dims
from lm.training.explicit_step import build_explicit_step
from lm.training.step import State, build_step
from lm.training.streamed_update import streamed_update
from lm.training.update import plain_update
from lm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Program:
    """Everything a run computes with; holds no state.

    Attributes:
      config: resolved, with the vocabulary's size and the precision policy filled in.
      functional, objective, optimizer, schedule, policy, placement: its parts.
      scaling: of the loss; None: there is none.
      kernel: what computes attention in a step.
      step: jitted `(state, batch) -> (state, packed metrics)`; donates the state.
      init_state: jitted `() -> state`, each device making only what it keeps.
    """

    config: Config
    functional: Functional
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    policy: Policy
    placement: Placement
    scaling: Scaling | None
    kernel: Kernel
    step: jax.stages.Wrapped
    init_state: Callable[[], State]

    @property
    def layout(self) -> MeshLayout:
        """The mesh."""
        return self.placement.layout

    @property
    def attention_words(self) -> str:
        """What computes attention in a step, for the banner and summary.json."""
        return f'{self.kernel.words}, in a ring over seq' if self.layout.ring else self.kernel.words

    @property
    def abstract_state(self) -> State:
        """Shapes, dtypes and shardings of the state, without any of its memory."""
        shapes = jax.eval_shape(self.init_state)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            state_shardings(self.placement, shapes),
        )

    def place(self, batch: Batch, held: HeldRows | None = None) -> Batch:
        """A training batch of the host on the devices, as `MeshLayout.place`.

        Raises:
          RuntimeError: a row has more segments than the program was built for.
        """
        most = self.kernel.segments
        if most is not None and np.max(batch.segment_ids) > max(1, most - 1):
            found = np.max(batch.segment_ids)
            raise RuntimeError(f'a row of {found} segments, where the step was built for {most}')
        return self.layout.place(batch, held)

    def compiled_step(self, row: Row) -> jax.stages.Compiled:
        """The step compiled for this run's batches; `row` is any row of the run."""
        return self.step.lower(self.abstract_state, self.abstract_batch(row)).compile()

    def abstract_batch(self, row: Row) -> Batch:
        """Shapes, dtypes and shardings of a training batch; `row` is any row of the run."""
        example = self.objective.example(row, np.random.default_rng(0))
        rows = self.config.train.batch_size

        def of(x: np.ndarray) -> jax.ShapeDtypeStruct:
            shape = (rows, *x.shape)
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=self.layout.rows(shape))

        return jax.tree.map(of, example)


def resolve_policy(config: Config, platform: str | None = None) -> Config:
    """`config` with `precision.policy=auto` replaced by what it stands for on a platform.

    None is that of this machine.
    """
    if config.precision.policy != 'auto':
        return config
    chosen = replace(config.precision, policy=default_policy_name(platform))  # type: ignore[arg-type]
    return replace(config, precision=chosen)


def build_schedule(config: Config) -> optax.Schedule:
    """Step -> learning rate.

    Raises:
      UserError: the schedule does not fit in the run's steps.
    """
    member = registry.lookup('schedules', config.optim.schedule, 'optim.schedule')
    schedule: optax.Schedule = member.build(config.optim, config.train.steps)
    return schedule


def build_program(
    config: Config,
    vocabulary: Vocabulary,
    devices: Sequence[jax.Device] | None = None,
    segments: int | None = None,
) -> Program:
    """The program of a resolved config.

    Args:
      config: resolved, with the vocabulary's size and the precision policy filled in.
      vocabulary: the special ids.
      devices: what the mesh is built of; described ones serve to compile. None: those there are.
      segments: no row of the run has more, padding counted as one; None: nobody knows.

    Raises:
      UserError: the mesh, the schedule or the objective refuses the config.
    """
    policy = policy_of(config.precision)
    layout = meshes.build(config.mesh, config.train.batch_size, config.train.microbatches, devices)
    if config.model.remat == 'offload':
        require_host_memory('model.remat=offload', layout.mesh.devices.flat[0])
    model = functional(config.model, policy, layout)
    layout = replace(layout, kernel=_kernel(config, policy, layout, model))
    model = model.on(layout)
    in_step = replace(layout, kernel=replace(layout.kernel, segments=segments))
    objective = build_objective(config, vocabulary)
    offloads = config.mesh.offload == 'optimizer'
    placement = place(layout, model.dims, model.shapes, offloads=offloads)
    schedule = build_schedule(config)
    member = registry.lookup('optimizers', config.optim.name, 'optim.name')

    def optimizer_of(dims: Dims) -> optax.GradientTransformation:
        given: tuple[Any, ...] = (config.optim, schedule, dims)
        if getattr(member, 'LOOKS_AT_WHOLE', False):
            given += (layout,)
        made: optax.GradientTransformation = member.build(*given)
        return made

    optimizer = optimizer_of(model.dims)
    update = plain_update(optimizer)
    if offloads:
        update = streamed_update(optimizer_of, placement, model.dims, config.optim.name)
    stepped, build = model.on(in_step), build_step
    if config.mesh.collectives == 'explicit':
        inside = explicit_layout(in_step, model.dims, model.shapes)
        stepped, build = model.on(inside), build_explicit_step
        require(
            not offloads,
            'mesh.offload=optimizer: not with mesh.collectives=explicit; set that to auto',
        )
    targets = config.train.batch_size * most_asked(objective)
    scaling = scaling_of(config.precision, policy, targets)
    step = build(
        stepped,
        objective,
        update,
        schedule,
        placement,
        microbatches=config.train.microbatches,
        clip_norm=config.optim.clip_norm,
        seed=config.train.seed,
        noise_scale=config.train.noise_scale,
        z_loss=config.train.z_loss,
        scaling=scaling,
        stochastic_rounding=policy.stochastic_rounding,
    )

    def init_state() -> State:
        params = model.init(jax.random.key(config.train.seed))
        scale = None if scaling is None else scaling.start()
        return State(params, optimizer.init(params), jnp.int32(0), scale)

    lies = state_shardings(placement, jax.eval_shape(init_state))
    return Program(
        config,
        model,
        objective,
        optimizer,
        schedule,
        policy,
        placement,
        scaling,
        in_step.kernel,
        jax.jit(step, donate_argnums=0, out_shardings=(lies, layout.replicated)),
        jax.jit(init_state, out_shardings=lies),
    )


def _kernel(config: Config, policy: Policy, layout: MeshLayout, model: Functional) -> Kernel:
    """What computes attention, before it is known what rows hold."""
    mesh, asked = layout.mesh, config.mesh.attention
    if mesh.shape['seq'] > 1:
        require(
            asked in ('auto', 'xla'), f'mesh.attention={asked}: not with mesh.seq; set it to auto'
        )
        return Kernel(reason='mesh.seq splits rows')
    chip, dtype = chip_of(mesh.devices.flat[0]), jnp.dtype(policy.compute_dtype).name
    used = attention_uses(config, model.family)
    return choose(asked, chip, dtype, attention_width(config.model), used)


def state_shardings(placement: Placement, shapes: State) -> Any:
    """Where each array of a state lies."""
    everywhere = placement.layout.replicated
    state: Any = placement.state(shapes.opt_state)
    scale = jax.tree.map(lambda _: everywhere, shapes.loss_scale)
    parts: Any = (placement.params, state, everywhere, scale)
    return State._make(parts)
