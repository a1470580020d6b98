"""BLOOM: Scao et al. 2022, section 3.2.

Pre-norm with LayerNorm, ALiBi in place of embedded positions, a norm on the embedding, tanh GELU,
biases, the output matrix tied to the embedding. Weights begin as in Megatron-LM, its training
code: normal with deviation 0.02, those that write to the residual stream smaller by 1 / sqrt(2 L)
(Shoeybi et al. 2019, section 4.2). Dropout, which the paper does not use, on the embedding and on
both residual branches.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, setting
from lm.models.spec import Initializer, Initializers, PositionKind, Positions, TransformerSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'decoder'


@dataclass(frozen=True)
class Options:
    """What may differ from the paper."""

    norm_eps: float = setting(1e-5, "added to the norm's variance")
    positions: PositionKind = setting('alibi', 'how the model knows the order of its input')


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 4 times the width."""
    options: Options = config.options
    init = Initializer(0.02)
    to_residual = Initializer(0.02 / math.sqrt(2 * config.num_layers))
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or 4 * config.d_model),
        init=Initializers.alike(init, to_residual),
        positions=Positions(options.positions),
        norm='layer',
        norm_eps=options.norm_eps,
        norm_first=True,
        activation='gelu_tanh',
        gated=False,
        biases=True,
        tied=True,
        embedding_norm=True,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.decoder import DecoderModel

    return DecoderModel(spec(config), rngs)
