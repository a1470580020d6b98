"""RoBERTa: Liu et al. 2019, section 4: BERT's encoder, trained longer on masked tokens alone.

It differs from BERT in two tables. There are no token types: Hugging Face's port keeps a table of
one row, added to every token, which the released weights hold at zero (`token_types`). And the
table of positions begins with rows that are never read: in the authors' code positions are counted
from the padding id, so the first token's is the padding id + 1 (`position_offset`): 2 in the
released models, 1 with a tokenizer that is trained here.

Post-norm with LayerNorm, a norm on the embedding, exact GELU, biases; the head is a dense layer,
GELU and norm before an output matrix tied to the embedding, with a bias. Weights begin normal with
deviation 0.02. Dropout on the embedding and on both residual branches; the original also drops
attention probabilities, which fused attention kernels never hold.
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
    positions: PositionKind = setting('learned', 'how the model knows the order of its input')
    position_offset: int = setting(1, 'row of the first position: the padding id + 1')
    token_types: int = setting(0, 'rows of a table whose first is added to every token; 0: none')

    def __post_init__(self) -> None:
        for name in ('position_offset', 'token_types'):
            value = getattr(self, name)
            require(value >= 0, f'model.options.{name}={value}: must not be negative')


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is 4 times the width."""
    options: Options = config.options
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=config.d_ff or 4 * config.d_model),
        init=Initializers.alike(Initializer(options.init_std)),
        positions=Positions(options.positions, offset=options.position_offset),
        norm='layer',
        norm_eps=options.norm_eps,
        norm_first=False,
        activation='gelu',
        gated=False,
        biases=True,
        tied=True,
        embedding_norm=True,
        token_types=options.token_types,
        head=options.head,
        head_transform=True,
        head_bias=True,
    )


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.encoder import EncoderModel

    return EncoderModel(spec(config), rngs)
