"""What a recurrent language model is made of, and which runs it refuses. Imports no jax."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from lm import registry
from lm.config import Config, ModelConfig, require
from lm.models.spec import Initializer

CellKind: TypeAlias = Literal['lstm', 'gru']

GATES: dict[CellKind, int] = {'lstm': 4, 'gru': 3}
"""Q, the matrices side by side that a cell multiplies its input with, and its state."""

Width: TypeAlias = Literal['D', 'E']
"""The letter of how wide a cell's state is: of the model, or of one direction of an encoder."""

UNREAD = {
    'num_kv_heads': 'heads',
    'head_dim': 'heads',
    'd_ff': 'feed-forward layer',
}
"""Sizes that are unset by default, and what a recurrent model would need to read them."""


@dataclass(frozen=True)
class RecurrentInitializers:
    """How each matrix begins. Biases begin at 0, but for the forget gate's.

    Attributes:
      tokens: the token embedding.
      cell: what cells multiply their input and their state with, and attention its own.
      head: the untied output matrix.
    """

    tokens: Initializer
    cell: Initializer
    head: Initializer


@dataclass(frozen=True)
class RecurrentSpec:
    """Stacked recurrent layers between an embedding and an output matrix, all `d_model` wide.

    Of two sides the encoder's layers read both ways, and the decoder's attend to what these give.

    Attributes:
      config: the sizes; `num_heads` is not read.
      cell: what a layer is.
      init: how its matrices begin.
      tied: the output matrix is the token embedding.
      forget_bias: what the bias of an LSTM's forget gate begins at.
      head, head_bias, head_scale: logits come out, without bias or factor; as of `TransformerSpec`.
    """

    config: ModelConfig
    cell: CellKind
    init: RecurrentInitializers
    tied: bool
    forget_bias: float = 0.0
    head: ClassVar[bool] = True
    head_bias: ClassVar[bool] = False
    head_scale: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        _require_unset(self.config)

    @property
    def gates(self) -> int:
        """Q."""
        return GATES[self.cell]

    @property
    def widths(self) -> dict[Width, int]:
        """Sizes of states; both directions of an encoder are together as wide as the model."""
        return {'D': self.config.d_model, 'E': self.config.d_model // 2}


def initializers(config: ModelConfig) -> RecurrentInitializers:
    """Normal matrices: those of cells and the output of deviation 1 / sqrt(D), the embedding's 1.

    Each layer hands on about a third of what it reads, which the embedding's deviation allows for.
    """
    matrix = Initializer(1 / math.sqrt(config.d_model))
    return RecurrentInitializers(tokens=Initializer(1.0), cell=matrix, head=matrix)


def _require_unset(config: ModelConfig) -> None:
    for field, missing in UNREAD.items():
        value = getattr(config, field)
        require(
            value is None,
            f'model.{field}={value}: model.name={config.name} has no {missing}; set it to none',
        )


def require_halves(config: ModelConfig) -> None:
    """Raises UserError where two directions cannot share the width of the model."""
    require(
        config.d_model % 2 == 0,
        f'model.d_model={config.d_model}: each of two directions of model.name={config.name} '
        'takes half of it; make it even',
    )


def check(config: Config) -> None:
    """Refuses what a recurrence over positions cannot do.

    Raises:
      UserError: a size that it does not read, a decoder's objective whose prefix is seen both
        ways, or devices along `tensor` or `seq`: a state is one vector, and each position waits
        for the one before.
    """
    _require_unset(config.model)
    name = f'model.name={config.model.name}'
    family = registry.lookup('models', config.model.name, 'model.name').FAMILY
    objective = registry.lookup('objectives', config.objective.name, 'objective.name')
    require(
        family != 'decoder' or family not in getattr(objective, 'PREFIX_FAMILIES', ()),
        f'objective.name={config.objective.name}: its prefix is seen both ways, and {name} reads '
        'left to right only; set objective.name=clm',
    )
    for axis in ('tensor', 'seq'):
        size = getattr(config.mesh, axis)
        require(
            size in (None, 1),
            f'mesh.{axis}={size}: {name} is recurrent and not split over {axis}; set it to 1 and '
            'use mesh.fsdp or mesh.replica',
        )
