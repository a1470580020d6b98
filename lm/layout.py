"""How a model's arrays lie on devices, as seen from inside the model.

The model calls `constrain` at its seams and `attend` for attention and knows no mesh. This base
class is the one-device layout; `lm.mesh` overrides it.
"""

from collections.abc import Callable

import jax

from lm.attention import blockwise, masked
from lm.attention.kernel import Kernel
from lm.attention.sight import Sight


class Layout:
    """One device: no constraint, attention by XLA."""

    kernel = Kernel()
    """What computes attention."""

    splits_rows = False
    """Whether the positions of a row lie on several devices."""

    def constrain(self, x: jax.Array, dims: str) -> jax.Array:
        """`x`, whose dimensions are the letters `dims`, placed as the mesh wants it."""
        del dims
        return x

    gathers_weights = False
    """Whether `weight` gives another array, of which the backward pass should keep none."""

    def weight(self, x: jax.Array, dims: str, *, looked_up: bool = False) -> jax.Array:
        """A weight as it lies, as a layer computes with it; its gradient as it is kept.

        Args:
          x: the weight, of one layer.
          dims: its letters.
          looked_up: rows of it are taken by index, rather than it being multiplied.
        """
        del dims, looked_up
        return x

    def apart(
        self, function: Callable[[jax.Array], jax.Array], x: jax.Array, dims: str
    ) -> jax.Array:
        """`function` of stacked weights, which looks at all of each and at none beside it.

        Args:
          function: keeps the shape; of a weight of zeros it may make anything.
          x: as it lies while it is updated.
          dims: its letters; what it is stacked along is the first of them, and only that.
        """
        del dims
        return function(x)

    def attend(
        self,
        q_BTHK: jax.Array,
        k_BSGK: jax.Array,
        v_BSGK: jax.Array,
        *,
        segments_BT: jax.Array,
        segments_BS: jax.Array,
        causal: bool,
        window: int | jax.Array | None = None,
        prefix_BS: jax.Array | None = None,
        bias_HTS: jax.Array | None = None,
        scale: float | None = None,
    ) -> jax.Array:
        """Softmax attention within segments; softmax in fp32.

        Query t sees key s where their segment ids are equal and, if causal, s <= t by place in
        the row or s is of its segment's prefix. A query with no key to see gets the mean of
        values, by blocks of those that its group reads: such rows are padding.

        Args:
          q_BTHK: queries; H is a multiple of G, head h reads group h // (H / G).
          k_BSGK, v_BSGK: keys and values.
          segments_BT, segments_BS: int32 segment ids of queries and keys.
          causal: hide later keys.
          window: of the keys up to the query's own place only this many, the nearest, are seen; not
            causal, of those from it on too. Causal, it is an int.
          prefix_BS: bool, later keys that are seen although causal; None: none is.
          bias_HTS: added to the scaled scores, [H or 1, T, S].
          scale: factor on the scores; None is 1 / sqrt(K).

        Returns:
          [B, T, H, K] in the dtype of `q_BTHK`.
        """
        if scale is None:
            scale = q_BTHK.shape[-1] ** -0.5
        sight = Sight(segments_BT, segments_BS, causal, scale, window, prefix_BS, bias_HTS)
        return self.seen(q_BTHK, k_BSGK, v_BSGK, sight)

    def seen(
        self, q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: Sight
    ) -> jax.Array:
        """`attend`, by the kernel."""
        if self.kernel.name == 'cudnn':
            from lm.attention import cudnn

            return cudnn.attend(q_BTHK, k_BSGK, v_BSGK, sight, self.kernel.segments)
        if self.kernel.name == 'splash':
            from lm.attention import splash

            if splash.serves(sight):
                return splash.attend(q_BTHK, k_BSGK, v_BSGK, sight)
        if self.kernel.name == 'blockwise' and blockwise.serves(sight):
            return blockwise.attend(q_BTHK, k_BSGK, v_BSGK, sight)
        return masked.attend(q_BTHK, k_BSGK, v_BSGK, sight)
