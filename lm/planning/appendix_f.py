"""Chinchilla's own counts: parameters of its 50 models, FLOPs of its appendix F. No jax.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556: table A9
    (the models), appendix F (FLOPs), table A4 (their ratio to 6 N D).
  Rae et al. 2021, Scaling Language Models: Gopher, arXiv 2112.11446, section 2.1: relative
    positions as in Transformer-XL (Dai et al. 2019, section 3.3), whose distances have a matrix and
    two biases of their own in each layer.
"""

from dataclasses import dataclass

RULE_WHOLE = 'appendix F of Hoffmann et al. 2022: embedding look-up as a product, logits counted'
RULE_LAYERS = 'appendix F of Hoffmann et al. 2022, embedding and logits left out as in its table A4'
TRAIN_OVER_FORWARD = 3
"""The backward pass is taken for two forward passes."""


@dataclass(frozen=True)
class ChinchillaShape:
    """A row of table A9.

    Attributes:
      num_layers: L.
      d_model: D, of the residual stream.
      d_ff: F, of the feed-forward layer.
      head_width: K, the table's `kv_size`; K times `num_heads` need not be `d_model`.
      num_heads: H.
      vocab_size: V; of Chinchilla's SentencePiece model 32,000.
    """

    num_layers: int
    d_model: int
    d_ff: int
    head_width: int
    num_heads: int
    vocab_size: int = 32_000

    @property
    def attention_width(self) -> int:
        """K H."""
        return self.head_width * self.num_heads

    def params(self) -> int:
        """All parameters: biases, norms and relative positions too, the embedding once."""
        D, F, width = self.d_model, self.d_ff, self.attention_width
        query_key_value = 3 * (D * width + width)
        distances = D * width + 2 * width
        output = width * D + D
        feed_forward = D * F + F + F * D + D
        norms = 2 * 2 * D
        layer = query_key_value + distances + output + feed_forward + norms
        return self.num_layers * layer + 2 * D + self.vocab_size * D

    def train_flops(self, seq_len: int, logits: bool = False) -> int:
        """FLOPs of a forward and backward pass over a sequence (appendix F).

        Args:
          seq_len: T; of all models of the paper 2048.
          logits: the embedding, which the appendix takes for a product, and the logits are
            counted. Without them come out the ratios to 6 N D that table A4 prints.
        """
        T, D, F, H = seq_len, self.d_model, self.d_ff, self.num_heads
        width = self.attention_width
        attention = (
            2 * 3 * T * D * width  # queries, keys, values
            + 2 * T * T * width  # scores
            + 3 * H * T * T  # softmax
            + 2 * T * T * width  # weighted sum of values
            + 2 * T * width * D  # output
        )
        forward = self.num_layers * (attention + 2 * T * (D * F + D * F))
        if logits:
            forward += 2 * (2 * T * self.vocab_size * D)
        return TRAIN_OVER_FORWARD * forward
