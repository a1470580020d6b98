"""BERT: Devlin et al. 2018, section 3; the masked-language-model half.

Post-norm with LayerNorm, learned positions, a norm on the embedding, exact GELU, biases. The
head is a dense layer, GELU and norm before an output matrix tied to the embedding, with a bias.
Weights begin truncated-normal, in the paper with deviation 0.02. There is no next-sentence
prediction, hence no pooler (Liu et al. 2019, section 4.2, finds that dropping it helps). The
table of token types has two rows; every token is of type 0, so the second is never trained.
Dropout on the embedding and on both residual branches; the original also drops attention
probabilities, which fused attention kernels never hold.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, setting
from lm.models.spec import Initializer, Initializers, PositionKind, Positions, TransformerSpec

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'encoder'


@dataclass(frozen=True)
class Options:
    """What may differ from the paper."""

    norm_eps: float = setting(1e-12, "added to the norm's variance")
    init_std: float = setting(0.02, 'deviation that the matrices begin with')
    head: bool = setting(True, 'the masked-language-model head; False: ends at hidden states')
    positions: PositionKind = setting('learned', 'how the model knows the order of its input')


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 4 times the width."""
    options: Options = config.options
    init = Initializer(options.init_std, truncated=True)
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or 4 * config.d_model),
        init=Initializers.alike(init),
        positions=Positions(options.positions),
        norm='layer',
        norm_eps=options.norm_eps,
        norm_first=False,
        activation='gelu',
        gated=False,
        biases=True,
        tied=True,
        embedding_norm=True,
        token_types=2,
        head=options.head,
        head_transform=True,
        head_bias=True,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.encoder import EncoderModel

    return EncoderModel(spec(config), rngs)
