"""GPT-NeoX: Black et al. 2022, section 2.1; Pythia (Biderman et al. 2023, section 2.1) is the same.

Pre-norm with LayerNorm, attention and feed-forward side by side on one stream, each behind a norm
of its own, rotation of the first quarter of each head, GELU (Pythia's exact, GPT-NeoX-20B's the
tanh approximation), biases, an output matrix of its own. Weights begin normal with deviation
sqrt(2 / 5 D), those that write to the residual stream with 2 / (L sqrt(D)): attention's output
too, as in the authors' code. Dropout, which the papers do not use, on the embedding and on both
residual branches.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lm.config import ModelConfig, require, setting
from lm.models.spec import Initializer, Initializers, PositionKind, Positions, TransformerSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'decoder'


@dataclass(frozen=True)
class Options:
    """What differs among its descendants."""

    norm_eps: float = setting(1e-5, "added to the norm's variance")
    activation: Literal['gelu', 'gelu_tanh'] = setting('gelu', 'gelu, exact, or gelu_tanh')
    parallel: bool = setting(True, 'attention and feed-forward read the same stream')
    rope_theta: float = setting(10_000.0, "base of the rotation's wavelengths")
    rope_share: float = setting(0.25, 'share of each head that is turned, from its beginning')
    tie_embeddings: bool = setting(False, 'the output matrix is the token embedding')
    positions: PositionKind = setting('rope', 'how the model knows the order of its input')

    def __post_init__(self) -> None:
        require(
            self.rope_theta > 0, f'model.options.rope_theta={self.rope_theta}: must be positive'
        )
        require(
            0 < self.rope_share <= 1,
            f'model.options.rope_share={self.rope_share}: must be above 0 and at most 1',
        )


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 4 times the width."""
    options: Options = config.options
    init = Initializer(math.sqrt(2 / (5 * config.d_model)))
    to_residual = Initializer(2 / (config.num_layers * math.sqrt(config.d_model)))
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or 4 * config.d_model),
        init=Initializers.alike(init, to_residual),
        positions=Positions(
            options.positions, rope_theta=options.rope_theta, rope_share=options.rope_share
        ),
        norm='layer',
        norm_eps=options.norm_eps,
        norm_first=True,
        parallel=options.parallel,
        activation=options.activation,
        gated=False,
        biases=True,
        tied=options.tie_embeddings,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.decoder import DecoderModel

    return DecoderModel(spec(config), rngs)
