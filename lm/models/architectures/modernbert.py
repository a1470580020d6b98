"""ModernBERT: Warner et al. 2024, section 2.1: BERT's task with what decoders have learned since.

Pre-norm with LayerNorm that has no bias, rotary positions, GEGLU, no biases but the logits'; a norm
on the embedding, and for it none before the first attention. Every third layer, from the first on,
sees all places; the others see 64 on each side, and turn by a base of their own. The head is a
dense layer, GELU and norm before an output matrix tied to the embedding.

Weights begin normal with deviation 0.02, truncated at two deviations; those that write to the
residual stream, and the head's, smaller by sqrt(2 L), as in the authors' code. Dropout, where it is
wanted, on the embedding and on both residual branches.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, require, setting
from lm.models.spec import Initializer, Initializers, PositionKind, Positions, TransformerSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'encoder'


@dataclass(frozen=True)
class Options:
    """What may differ from the paper."""

    norm_eps: float = setting(1e-5, "added to the norm's variance")
    init_std: float = setting(0.02, 'deviation that the matrices begin with')
    head: bool = setting(True, 'the masked-language-model head; False: ends at hidden states')
    global_every: int = setting(3, 'every so many layers, from the first, see all places')
    local_reach: int = setting(64, 'places on each side that the other layers see')
    rope_theta: float = setting(160_000.0, 'base of wavelengths where all places are seen')
    local_rope_theta: float = setting(10_000.0, 'base of wavelengths in the other layers')
    positions: PositionKind = setting('rope', 'how the model knows the order of its input')

    def __post_init__(self) -> None:
        for name in ('global_every', 'local_reach', 'rope_theta', 'local_rope_theta'):
            value = getattr(self, name)
            require(value > 0, f'model.options.{name}={value}: must be positive')


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 3/2 of the width."""
    options: Options = config.options
    init = Initializer(options.init_std, truncated=True)
    smaller = Initializer(options.init_std / (2 * config.num_layers) ** 0.5, truncated=True)
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or 3 * config.d_model // 2),
        init=dataclasses.replace(Initializers.alike(init, smaller), head=smaller),
        positions=Positions(
            options.positions,
            rope_theta=options.rope_theta,
            local_rope_theta=options.local_rope_theta,
        ),
        norm='layer',
        norm_bias=False,
        norm_eps=options.norm_eps,
        norm_first=True,
        first_norm=False,
        activation='gelu',
        gated=True,
        biases=False,
        tied=True,
        embedding_norm=True,
        attention_window=options.local_reach + 1,
        global_every=options.global_every,
        head=options.head,
        head_transform=True,
        head_bias=True,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.encoder import EncoderModel

    return EncoderModel(spec(config), rngs)
