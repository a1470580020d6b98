"""Kaplan et al.'s counts of a transformer: parameters without embeddings, FLOPs a token. No jax.

References:
  Kaplan et al. 2020, Scaling Laws for Neural Language Models, arXiv 2001.08361, section 2.1,
    equations 2.1 and 2.2, table 1.
"""

from dataclasses import dataclass

RULE = (
    'Kaplan et al. 2020, eq. 2.2: 3 x (2 N + 2 n_layer n_ctx d_attn) a token, N without embeddings'
)


@dataclass(frozen=True)
class KaplanShape:
    """The sizes by which the paper counts.

    Attributes:
      num_layers: n_layer.
      d_model: of the residual stream.
      d_ff: of the feed-forward layer.
      d_attention: heads times their width.
    """

    num_layers: int
    d_model: int
    d_ff: int
    d_attention: int

    def params(self) -> int:
        """N = 2 d_model n_layer (2 d_attn + d_ff): no embedding, bias or norm (equation 2.1)."""
        return 2 * self.d_model * self.num_layers * (2 * self.d_attention + self.d_ff)

    def train_flops_per_token(self, seq_len: int) -> int:
        """Three times the forward pass's 2 N + 2 n_layer n_ctx d_attn (equation 2.2).

        Of attention the scores alone are counted, not the weighted sum of values.
        """
        return 3 * (2 * self.params() + 2 * self.num_layers * seq_len * self.d_attention)
