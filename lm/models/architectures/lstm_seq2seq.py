"""An encoder-decoder of stacked LSTM layers with attention, as there were before transformers.

The encoder reads both ways (Bahdanau et al. 2014, section 3.2), by cells of half of `d_model`
each, which is even. The decoder's layers attend to it by the `general` score of Luong et al. 2015,
section 3.1, scaled, with input feeding off; that each layer attends stands in for it
(`lm.models.recurrent_encoder_decoder`). Both sides have `num_layers` layers and share the
embedding.

The decoder's first state is zero, not the encoder's last, so that rows may be packed. Cells,
dropout, initialisation and the sizes that are read are those of `lstm`; attention's matrices begin
as the cells'.
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
    forget_bias: float = setting(1.0, "what the forget gate's bias begins at")


def spec(config: ModelConfig) -> RecurrentSpec:
    """What the model is made of.

    Raises:
      UserError: `d_model` is odd.
    """
    recurrent_spec.require_halves(config)
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
    from lm.models.recurrent_encoder_decoder import RecurrentEncoderDecoderModel

    return RecurrentEncoderDecoderModel(spec(config), rngs)
