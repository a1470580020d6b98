"""T5: Raffel et al. 2020, section 2.1; 1.1, as its authors' release changes it, by default.

Pre-norm with RMSNorm, a relative position bias shared by a side's layers, attention without
1 / sqrt(K), gated tanh GELU (Shazeer 2020), no biases, an output matrix of its own, a head width
that need not divide the model's. T5 1.0, of the paper, has a plain ReLU layer (`gated=False`) and
reads its logits off the embedding, from states scaled by 1 / sqrt(D) (`tie_embeddings`).

Weights begin as in Mesh TensorFlow: the embedding with
deviation 1, every other matrix with 1 / sqrt(fan in), queries smaller by sqrt(K) in place of the
missing factor on the scores.

The output matrix begins with half of 1 / sqrt(fan in): at the full deviation logits have
variance 1, which puts the first loss half a nat above ln V (Hugging Face's port begins it at
deviation 1, tens of nats above); at half, 1/8. Those of a tied embedding begin with variance 1, as
the original's.

Dropout on the embedding, the residual branches, the feed-forward's hidden layer and the last
norm; the original also drops attention probabilities, which fused attention kernels never hold.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import ModelConfig, require, setting
from lm.models.spec import (
    Initializer,
    Initializers,
    PositionKind,
    Positions,
    TransformerSpec,
    gated_width,
)

if TYPE_CHECKING:
    from flax import nnx

FAMILY = 'encoder_decoder'


@dataclass(frozen=True)
class Options:
    """What may differ from the release."""

    norm_eps: float = setting(1e-6, "added to the norm's variance")
    gated: bool = setting(True, 'a gated GELU layer; False: a plain ReLU layer, as T5 1.0')
    tie_embeddings: bool = setting(
        False, 'the output matrix is the token embedding and reads scaled states, as T5 1.0'
    )
    positions: PositionKind = setting('relative', 'how the model knows the order of its input')
    relative_buckets: int = setting(32, 'rows of the relative-position table')
    relative_max_distance: int = setting(128, 'from this distance on, all share a bucket')

    def __post_init__(self) -> None:
        require(
            self.relative_buckets % 4 == 0 and self.relative_buckets > 0,
            f'model.options.relative_buckets={self.relative_buckets}: must be a multiple of 4',
        )
        require(
            self.relative_max_distance > self.relative_buckets // 2,
            f'model.options.relative_max_distance={self.relative_max_distance}: must exceed half '
            f'of model.options.relative_buckets={self.relative_buckets}',
        )


def spec(config: ModelConfig) -> TransformerSpec:
    """What the model is made of; `d_ff` unset is `gated_width`, or 4 times the width if plain."""
    options: Options = config.options
    d_ff = config.d_ff or feed_forward_width(config)
    return TransformerSpec(
        config=dataclasses.replace(config, d_ff=d_ff),
        init=_initializers(config.d_model, config.num_heads, config.head_width, d_ff),
        positions=Positions(
            options.positions,
            buckets=options.relative_buckets,
            max_distance=options.relative_max_distance,
        ),
        norm='rms',
        norm_eps=options.norm_eps,
        norm_first=True,
        activation='gelu_tanh' if options.gated else 'relu',
        gated=options.gated,
        biases=False,
        tied=options.tie_embeddings,
        head_scale=config.d_model**-0.5 if options.tie_embeddings else 1.0,
        attention_scale=1.0,
        dropout_inside=True,
    )


def feed_forward_width(config: ModelConfig) -> int:
    """F where it is unset."""
    return gated_width(config.d_model) if config.options.gated else 4 * config.d_model


def build(config: ModelConfig, rngs: 'nnx.Rngs') -> 'nnx.Module':
    """The model."""
    from lm.models.encoder_decoder import EncoderDecoderModel

    return EncoderDecoderModel(spec(config), rngs)


def _initializers(d: int, h: int, k: int, f: int) -> Initializers:
    return Initializers(
        tokens=Initializer(1.0),
        positions=Initializer(d**-0.5),
        query=Initializer((d * k) ** -0.5),
        key_value=Initializer(d**-0.5),
        attention_output=Initializer((h * k) ** -0.5),
        feed_forward_in=Initializer(d**-0.5),
        feed_forward_out=Initializer(f**-0.5),
        head=Initializer(0.5 * d**-0.5),
    )
