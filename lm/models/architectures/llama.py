"""LLaMA: Touvron et al. 2023, section 2.2; grouped keys and values as in LLaMA 2.

Its descendants by options: LLaMA 3.1 scales its rotation, Mistral (Jiang et al. 2023) sees a
window, Qwen 2 has biases on queries, keys and values, Qwen 3 norms each head's queries and keys.

Pre-norm with RMSNorm, rotary positions, SwiGLU, no biases, untied head. The paper does not say
how weights begin: normal with deviation 0.02, as its Hugging Face port, and those that write to
the residual stream scaled as GPT-2's are.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, require, setting
from lm.models.spec import (
    Initializer,
    Initializers,
    PositionKind,
    Positions,
    RopeScaling,
    RopeScalingKind,
    TransformerSpec,
    gated_width,
)

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'decoder'


@dataclass(frozen=True)
class Options:
    """What LLaMA's descendants change."""

    norm_eps: float = setting(1e-5, "added to the norm's variance")
    rope_theta: float = setting(10_000.0, "base of the rotation's wavelengths")
    rope_scaling: RopeScalingKind = setting('none', 'how the rotation is slowed for longer rows')
    rope_factor: float = setting(8.0, 'what rope_scaling divides frequencies by')
    rope_low_freq_factor: float = setting(1.0, 'llama3: turns below which they are divided')
    rope_high_freq_factor: float = setting(4.0, 'llama3: turns above which they stay')
    rope_original_positions: int = setting(8192, 'llama3: length that turns are counted over')
    attention_window: int | None = setting(
        None, 'places that a query sees, its own and those before it; none: all'
    )
    qkv_bias: bool = setting(False, 'queries, keys and values have biases')
    qk_norm: bool = setting(False, "each head's queries and keys are normed")
    tie_embeddings: bool = setting(False, 'the output matrix is the token embedding')
    scale_residual_init: bool = setting(
        True, 'begin what writes to the residual stream smaller by sqrt(2 num_layers)'
    )
    positions: PositionKind = setting('rope', 'how the model knows the order of its input')

    def __post_init__(self) -> None:
        for name in ('rope_theta', 'rope_factor', 'rope_original_positions', 'attention_window'):
            value = getattr(self, name)
            require(value is None or value > 0, f'model.options.{name}={value}: must be positive')
        require(
            0 < self.rope_low_freq_factor < self.rope_high_freq_factor,
            f'model.options.rope_low_freq_factor={self.rope_low_freq_factor}: must be positive and '
            f'below model.options.rope_high_freq_factor={self.rope_high_freq_factor}',
        )


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 8/3 of the width, rounded up (`gated_width`)."""
    options: Options = config.options
    init = Initializer(0.02)
    scale = math.sqrt(2 * config.num_layers) if options.scale_residual_init else 1
    to_residual = Initializer(0.02 / scale)
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or gated_width(config.d_model)),
        init=Initializers.alike(init, to_residual),
        positions=Positions(
            options.positions, rope_theta=options.rope_theta, rope_scaling=_scaling(options)
        ),
        norm='rms',
        norm_eps=options.norm_eps,
        norm_first=True,
        activation='silu',
        gated=True,
        biases=False,
        qkv_biases=options.qkv_bias,
        qk_norm=options.qk_norm,
        attention_window=options.attention_window,
        tied=options.tie_embeddings,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.decoder import DecoderModel

    return DecoderModel(spec(config), rngs)


def _scaling(options: Options) -> RopeScaling:
    return RopeScaling(
        options.rope_scaling,
        options.rope_factor,
        options.rope_low_freq_factor,
        options.rope_high_freq_factor,
        options.rope_original_positions,
    )
