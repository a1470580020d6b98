"""What a recurrent language model is made of, and which runs it refuses. Imports no jax."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from lm import registry
from lm.config import Config, ModelConfig, require
from lm.models.spec import Initializer

CellKind: TypeAlias = Literal['lstm', 'gru']

GATES: dict[CellKind, int] = {'lstm': 4, 'gru': 3}
"""Q, the matrices side by side that a cell multiplies its input with, and its state."""

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
      cell: what cells multiply their input and their state with.
      head: the untied output matrix.
    """

    tokens: Initializer
    cell: Initializer
    head: Initializer


@dataclass(frozen=True)
class RecurrentSpec:
    """Stacked recurrent layers between an embedding and an output matrix, all `d_model` wide.

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


def _require_unset(config: ModelConfig) -> None:
    for field, missing in UNREAD.items():
        value = getattr(config, field)
        require(
            value is None,
            f'model.{field}={value}: model.name={config.name} has no {missing}; set it to none',
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
    objective = registry.lookup('objectives', config.objective.name, 'objective.name')
    require(
        'decoder' not in getattr(objective, 'PREFIX_FAMILIES', ()),
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
