"""LLaMA: Touvron et al. 2023, section 2.2; grouped keys and values as in LLaMA 2.

Pre-norm with RMSNorm, rotary positions, SwiGLU, no biases, untied head. The paper does not say
how weights begin: normal with deviation 0.02, as its Hugging Face port, and those that write to
the residual stream scaled as GPT-2's are.
"""

import dataclasses
import math
from dataclasses import dataclass

from flax import nnx
from jax.nn.initializers import normal

from lm.config import ModelConfig, setting
from lm.models.decoder import DecoderModel
from lm.models.spec import (
    Initializers,
    PositionKind,
    Positions,
    TransformerSpec,
    gated_width,
)

FAMILY = 'decoder'


@dataclass(frozen=True)
class Options:
    """What LLaMA's descendants change."""

    norm_eps: float = setting(1e-5, "added to the norm's variance")
    rope_theta: float = setting(10_000.0, "base of the rotation's wavelengths")
    tie_embeddings: bool = setting(False, 'the output matrix is the token embedding')
    scale_residual_init: bool = setting(
        True, 'begin what writes to the residual stream smaller by sqrt(2 num_layers)'
    )
    positions: PositionKind = setting('rope', 'how the model knows the order of its input')


def build(config: ModelConfig, rngs: nnx.Rngs) -> DecoderModel:
    """The model; `d_ff` unset is 8/3 of the width, rounded up (`gated_width`)."""
    options: Options = config.options
    init = normal(0.02)
    scale = math.sqrt(2 * config.num_layers) if options.scale_residual_init else 1
    to_residual = normal(0.02 / scale)
    spec = TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or gated_width(config.d_model)),
        init=Initializers.alike(init, to_residual),
        positions=Positions(options.positions, rope_theta=options.rope_theta),
        norm='rms',
        norm_eps=options.norm_eps,
        norm_first=True,
        activation='silu',
        gated=True,
        biases=False,
        tied=options.tie_embeddings,
    )
    return DecoderModel(spec, rngs)
