"""An encoder-decoder of stacked GRU layers with attention: `lstm_seq2seq` with the cell of `gru`.

The cell is that of Bahdanau et al. 2014, but for its reset gate, which comes after the product with
the state. Everything else is as in `lstm_seq2seq`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, setting
from lm.models import recurrent_spec
from lm.models.recurrent_spec import RecurrentSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'encoder_decoder'
check = recurrent_spec.check


@dataclass(frozen=True)
class Options:
    """What may differ from the papers."""

    tie_embeddings: bool = setting(False, 'the output matrix is the token embedding')


def spec(config: ModelConfig) -> RecurrentSpec:
    """What the model is made of.

    Raises:
      UserError: `d_model` is odd.
    """
    recurrent_spec.require_halves(config)
    options: Options = config.options
    return RecurrentSpec(
        config=config,
        cell='gru',
        init=recurrent_spec.initializers(config),
        tied=options.tie_embeddings,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.recurrent_encoder_decoder import RecurrentEncoderDecoderModel

    return RecurrentEncoderDecoderModel(spec(config), rngs)
