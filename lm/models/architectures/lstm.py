"""A language model of stacked LSTM layers: Zaremba et al. 2014, the baseline before attention.

The cell is that of Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000.
Embedding and layers are `d_model` wide; there are no heads, positions or feed-forward layers, and
`model.num_heads` is not read. `model.max_positions` bounds rows, not what the state remembers.
Dropout as in the paper, on all connections but those between positions.

The paper draws all weights uniformly from a range chosen by size; here matrices are normal, the
cells' of deviation 1 / sqrt(d_model), the embedding's 1, since each layer hands on about a third of
what it reads, and the forget gate's bias begins at 1 (Jozefowicz et al. 2015, section 2.1).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, setting
from lm.models import recurrent_spec
from lm.models.recurrent_spec import RecurrentSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'decoder'
check = recurrent_spec.check


@dataclass(frozen=True)
class Options:
    """What may differ from the paper."""

    tie_embeddings: bool = setting(False, 'the output matrix is the token embedding')
    forget_bias: float = setting(1.0, "what the forget gate's bias begins at")


def spec(config: ModelConfig) -> RecurrentSpec:
    """What the model is made of."""
    options: Options = config.options
    return RecurrentSpec(
        config=config,
        cell='lstm',
        init=recurrent_spec.initializers(config),
        tied=options.tie_embeddings,
        forget_bias=options.forget_bias,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.recurrent import RecurrentModel

    return RecurrentModel(spec(config), rngs)
