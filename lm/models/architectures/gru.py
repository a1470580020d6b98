"""A language model of stacked GRU layers: Cho et al. 2014, section 2.3, in the frame of `lstm`.

The reset gate comes after the product with the state, as in cuDNN and PyTorch, not before it as in
the paper. Sizes, dropout and initialisation are those of `lstm`; `model.num_heads` is not read.
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


def spec(config: ModelConfig) -> RecurrentSpec:
    """What the model is made of."""
    options: Options = config.options
    return RecurrentSpec(
        config=config,
        cell='gru',
        init=recurrent_spec.initializers(config),
        tied=options.tie_embeddings,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.recurrent import RecurrentModel

    return RecurrentModel(spec(config), rngs)
