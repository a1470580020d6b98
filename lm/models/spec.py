"""What a transformer is made of: the choices in which architectures differ.

An architecture's file fills in a `TransformerSpec`; the core reads nothing else. Neither imports
jax, so that a model is counted and planned without it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lm.config import ModelConfig, require

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Initializer:
    """Normal numbers of a deviation; `truncated` ones lie within two of a wider normal's.

    Called as those of `jax.nn.initializers`: `(key, shape, dtype) -> array`.
    """

    deviation: float
    truncated: bool = False

    def __call__(self, key: 'jax.Array', shape: tuple[int, ...], dtype: Any) -> 'jax.Array':
        """The array that `key` stands for."""
        from jax.nn import initializers

        make = initializers.truncated_normal if self.truncated else initializers.normal
        return make(self.deviation)(key, shape, dtype)


PositionKind: TypeAlias = Literal['none', 'learned', 'sinusoidal', 'rope', 'relative', 'alibi']

RopeScalingKind: TypeAlias = Literal['none', 'linear', 'llama3']


@dataclass(frozen=True)
class Initializers:
    """How each matrix begins. Biases begin at 0, norms' scales at 1.

    Attributes:
      tokens: the token embedding, and the table of token types.
      positions: the table of learned or relative positions.
      query, key_value, attention_output: attention's matrices.
      feed_forward_in, feed_forward_out: into and out of the feed-forward's hidden layer.
      head: the untied output matrix, and the head's own transform.
    """

    tokens: Initializer
    positions: Initializer
    query: Initializer
    key_value: Initializer
    attention_output: Initializer
    feed_forward_in: Initializer
    feed_forward_out: Initializer
    head: Initializer

    @classmethod
    def alike(cls, init: Initializer, to_residual: Initializer | None = None) -> 'Initializers':
        """`init` for all, but `to_residual`, if given, for what writes to the residual stream."""
        out = to_residual or init
        return cls(init, init, init, init, out, init, out, init)


@dataclass(frozen=True)
class RopeScaling:
    """How a model trained on short rows turns longer ones.

    Attributes:
      kind: `linear` divides every frequency by `factor` (Chen et al. 2023, section 2.3);
        `llama3` only those of wavelengths that the original length does not hold, with a blend
        between (the reference code of LLaMA 3.1, `apply_scaling`).
      factor: frequencies are divided by it.
      low_freq_factor, high_freq_factor: wavelengths above `original_positions /
        low_freq_factor` are divided, those below `original_positions / high_freq_factor` not.
      original_positions: the length that the model was first trained at.
    """

    kind: RopeScalingKind = 'none'
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True)
class Positions:
    """How the model knows the order of its input.

    Attributes:
      kind: `learned` adds a row of a table to each token's embedding (Devlin et al. 2018);
        `sinusoidal` adds waves of amplitude 1 instead (Vaswani et al. 2017, section 3.5), beside
        which an embedding of small deviation, not normed, begins faint;
        `rope` rotates queries and keys (Su et al. 2021); `relative` adds a bias to the scores
        by the distance between query and key (Raffel et al. 2020, section 2.1); `alibi` takes
        from them that distance times a slope of the head's (Press et al. 2022, section 3).
      offset: rows of the learned table that come before the first place's and are never read.
      rope_theta: base of the rotation's wavelengths.
      local_rope_theta: base in the layers that see a window, where there are others; None: the
        same.
      rope_share: share of each head that is turned, from its beginning.
      rope_scaling: how they are stretched for longer rows.
      buckets, max_distance: of the relative bias; larger distances share the last bucket.
    """

    kind: PositionKind
    offset: int = 0
    rope_theta: float = 10_000.0
    local_rope_theta: float | None = None
    rope_share: float = 1.0
    rope_scaling: RopeScaling = RopeScaling()
    buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True)
class TransformerSpec:
    """A transformer, whatever its name.

    Attributes:
      config: the sizes. `d_ff` is set.
      init: how its matrices begin.
      positions: how it knows the order of its input.
      norm: `layer` (Ba et al. 2016) or `rms` (Zhang and Sennrich 2019).
      norm_eps: added to the variance.
      norm_bias: LayerNorm adds a bias.
      norm_first: a sublayer reads a normed stream, and a norm closes the stack (pre-norm);
        otherwise the norm follows each residual sum (post-norm).
      parallel: attention and feed-forward read the same stream, each by its own norm, and both
        are added to it (Wang and Komatsuzaki 2021); of pre-norm layers without cross-attention.
      embedding_norm: the embedding is normed.
      first_norm: of pre-norm layers the first norms what its attention reads; otherwise it reads
        the embedding as it is.
      activation: of the feed-forward layer and of the head's transform; `gelu` is exact (erf),
        `gelu_tanh` its tanh approximation (Hendrycks and Gimpel 2016).
      gated: the feed-forward's hidden layer is multiplied by a gate (Shazeer 2020).
      biases: the layers' matrices have biases.
      qkv_biases: of them, only those of queries, keys and values do.
      qk_norm: each head's queries and keys are normed before they are turned.
      attention_window: a query sees this many places, its own and those before it; None: all. One
        that sees both ways sees as many behind it.
      global_every: every so many layers, from the first on, see all places; 0: none does.
      attention_scale: factor on the scores; None is 1 / sqrt(K).
      token_types: rows of a token-type table; 0 is none. Tokens are of type 0 where a batch says
        nothing else.
      tied: the output matrix is the token embedding.
      head: logits come out; otherwise the model ends at its hidden states.
      head_transform: a dense layer, activation and norm come before the output matrix.
      head_bias: the logits have a bias.
      head_scale: factor on what the output matrix reads.
      dropout_inside: dropout also inside the feed-forward layer and after the last norm.
    """

    config: ModelConfig
    init: Initializers
    positions: Positions
    norm: Literal['layer', 'rms']
    norm_eps: float
    norm_first: bool
    activation: Literal['gelu', 'gelu_tanh', 'relu', 'silu']
    gated: bool
    biases: bool
    tied: bool
    parallel: bool = False
    norm_bias: bool = True
    embedding_norm: bool = False
    first_norm: bool = True
    qkv_biases: bool = False
    qk_norm: bool = False
    attention_window: int | None = None
    global_every: int = 0
    attention_scale: float | None = None
    token_types: int = 0
    head: bool = True
    head_transform: bool = False
    head_bias: bool = False
    head_scale: float = 1.0
    dropout_inside: bool = False

    def __post_init__(self) -> None:
        require(self.norm_eps > 0, f'model.options.norm_eps={self.norm_eps}: must be positive')
        require(
            self.positions.kind != 'rope' or self.config.head_width % 2 == 0,
            f'model.head_dim={self.config.head_width}: rope turns pairs; choose an even width',
        )
        require(
            self.positions.kind != 'sinusoidal' or self.config.d_model % 2 == 0,
            f'model.d_model={self.config.d_model}: sinusoidal positions are pairs; make it even',
        )

    @property
    def rotary_width(self) -> int:
        """Entries of a head that are turned: its share of them, in pairs, and at least one."""
        return max(2, int(self.config.head_width * self.positions.rope_share) // 2 * 2)

    @property
    def position_rows(self) -> int:
        """P, rows of the learned table."""
        return self.config.max_positions + self.positions.offset

    @property
    def feed_forward_width(self) -> int:
        """F."""
        assert self.config.d_ff is not None, 'the architecture sets d_ff'
        return self.config.d_ff


def gated_width(d_model: int) -> int:
    """F of a gated feed-forward layer as large as a plain one of 4 d_model: 8/3 d_model.

    Rounded up to a multiple of 256, as LLaMA does (Touvron et al. 2023, section 2.2; its code
    truncates 8/3 d_model first); of 32 below d_model = 1024, where 256 would add up to half.
    """
    multiple = 256 if d_model >= 1024 else 32
    return -(-(8 * d_model // 3) // multiple) * multiple
