"""BART: Lewis et al. 2020, section 2.1.

The encoder-decoder of Vaswani et al. 2017 with BERT's layers: post-norm with LayerNorm, learned
positions and a norm on the embedding on each side, exact GELU, biases, the output matrix tied to
the embedding. As in the released models, a table of positions begins with two rows that are never
read. Their decoder begins with the id that ends a text (`decoder_start`), one trained here with
that of padding, as T5's does. Weights begin normal with deviation 0.02. Dropout on the embedding
and on the residual branches; the original also drops attention probabilities, which fused attention
kernels never hold.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, require, setting
from lm.models.spec import Initializer, Initializers, PositionKind, Positions, TransformerSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'encoder_decoder'
POSITION_OFFSET = 2
"""Row of the first position: the released models' padding id + 1, whatever the tokenizer's is."""


@dataclass(frozen=True)
class Options:
    """What may differ from the paper."""

    norm_eps: float = setting(1e-5, "added to the norm's variance")
    init_std: float = setting(0.02, 'deviation that the matrices begin with')
    decoder_start: int | None = setting(
        None, 'id that the decoder reads first; unset: that of padding'
    )
    positions: PositionKind = setting('learned', 'how the model knows the order of its input')


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 4 times the width."""
    options: Options = config.options
    start = options.decoder_start
    require(
        start is None or 0 <= start < config.tokens,
        f'model.options.decoder_start={start}: is no id of model.vocab_size={config.tokens}',
    )
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or 4 * config.d_model),
        init=Initializers.alike(Initializer(options.init_std)),
        positions=Positions(options.positions, offset=POSITION_OFFSET),
        norm='layer',
        norm_eps=options.norm_eps,
        norm_first=False,
        activation='gelu',
        gated=False,
        biases=True,
        tied=True,
        embedding_norm=True,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.encoder_decoder import EncoderDecoderModel

    return EncoderDecoderModel(spec(config), rngs)
