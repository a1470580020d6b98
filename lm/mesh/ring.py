"""Ring attention: keys and values go round the devices of `seq`, each of which keeps its queries.

Liu et al. 2023, section 3: blocks of keys are folded in one by one by the online softmax (Milakov
and Gimelshein 2018), so no device holds the keys of a whole row. To run inside `shard_map`.

A causal row is dealt out in pairs of stretches, an early and a late one each (Dubey et al. 2024,
section 3.3.2), so that at every turn of the ring every device has the same number of scores that
count, and only these are computed. With a bias or a prefix the row stays as it is, and every device
folds in every block.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

AXIS = 'seq'


class Block(NamedTuple):
    """Keys and values of some places.

    Attributes:
      k_BSGK, v_BSGK: keys and values.
      segments_BS: their segment ids.
      places_S: their places in the whole row.
      prefix_BS: which of them queries before them see too; None: none.
    """

    k_BSGK: jax.Array
    v_BSGK: jax.Array
    segments_BS: jax.Array
    places_S: jax.Array
    prefix_BS: jax.Array | None = None

    def part(self, where: slice) -> 'Block':
        """The keys of a stretch of places, without a prefix."""
        return Block(
            self.k_BSGK[:, where],
            self.v_BSGK[:, where],
            self.segments_BS[:, where],
            self.places_S[where],
        )


class Folded(NamedTuple):
    """Softmax attention over the keys seen so far, not yet divided; fp32.

    Attributes:
      largest_BGRT: the largest score.
      total_BGRT: the sum of exp(score - largest).
      seen_BTGRK: the sum of exp(score - largest) times the values.
    """

    largest_BGRT: jax.Array
    total_BGRT: jax.Array
    seen_BTGRK: jax.Array


@dataclass(frozen=True)
class Ring:
    """What all turns of a ring share.

    Attributes:
      causal: later keys are hidden.
      window: a query sees this many places, its own and those before it; not causal, as many behind
        it too; None: all.
      scale: factor on the scores.
    """

    causal: bool
    window: int | jax.Array | None
    scale: float

    def attend(
        self,
        q_BTHK: jax.Array,
        block: Block,
        segments_BT: jax.Array,
        bias_HTS: jax.Array | None,
    ) -> jax.Array:
        """A device's queries against the keys of all devices, [B, T, H, K].

        Args:
          q_BTHK: the queries of this device's stretch of the row.
          block: its keys.
          segments_BT: its segment ids.
          bias_HTS: of its queries and the whole row's keys.
        """
        groups = block.k_BSGK.shape[2]
        q_BTGRK = q_BTHK.reshape(*q_BTHK.shape[:2], groups, -1, q_BTHK.shape[3])
        queries = (q_BTGRK, segments_BT, block.places_S)
        if self.causal and bias_HTS is None and block.prefix_BS is None:
            zigzag = jax.tree.map(partial(_dealt, axis=1), (q_BTGRK, segments_BT))
            *rows, places_S, prefix_BS = block
            dealt = [_dealt(x, axis=1) for x in rows]
            block = Block._make([*dealt, _dealt(places_S, axis=0), prefix_BS])
            folded = self._balanced((*zigzag, block.places_S), block)
            out_BTGRK = _gathered_back(_divided(folded), axis=1)
        else:
            out_BTGRK = _divided(self._plain(queries, block, bias_HTS))
        return out_BTGRK.reshape(q_BTHK.shape).astype(q_BTHK.dtype)

    def _plain(self, queries: tuple, block: Block, bias_HTS: jax.Array | None) -> Folded:
        """Every device folds in every block whole."""

        def fold(folded: Folded, block: Block) -> Folded:
            bias = None
            if bias_HTS is not None:
                bias = jax.lax.dynamic_slice_in_dim(
                    bias_HTS, block.places_S[0], block.places_S.shape[0], axis=2
                )
            return self._fold(folded, queries, block, bias)

        return self._turned(fold, _nothing(queries[0]), block)

    def _balanced(self, queries: tuple, block: Block) -> Folded:
        """Of two stretches of queries and two of keys, only the pairs that are not all hidden."""
        half = block.places_S.shape[0] // 2
        early, late = slice(half), slice(half, None)
        own = jax.lax.axis_index(AXIS)

        def from_before(folded: Folded, block: Block) -> Folded:
            return self._fold(folded, queries, block.part(early), None)

        def from_behind(folded: Folded, block: Block) -> Folded:
            q_BTGRK, segments_BT, places_T = queries
            later = (q_BTGRK[:, late], segments_BT[:, late], places_T[late])
            part = Folded(
                folded.largest_BGRT[..., late],
                folded.total_BGRT[..., late],
                folded.seen_BTGRK[:, late],
            )
            more = self._fold(part, later, block, None)
            return Folded(
                folded.largest_BGRT.at[..., late].set(more.largest_BGRT),
                folded.total_BGRT.at[..., late].set(more.total_BGRT),
                folded.seen_BTGRK.at[:, late].set(more.seen_BTGRK),
            )

        def fold(folded: Folded, block: Block) -> Folded:
            source = block.places_S[0] // half
            return jax.lax.cond(source < own, from_before, from_behind, folded, block)

        begun = self._fold(_nothing(queries[0]), queries, block, None)
        return self._turned(fold, begun, block, begun_with_own=True)

    def _turned(
        self, fold: object, folded: Folded, block: Block, *, begun_with_own: bool = False
    ) -> Folded:
        """`fold` over the blocks of all devices, this one's first."""
        ways = jax.lax.axis_size(AXIS)
        onward = [(i, (i + 1) % ways) for i in range(ways)]
        fold = jax.checkpoint(fold, prevent_cse=False)  # type: ignore[arg-type]
        if not begun_with_own:
            folded = fold(folded, block)

        def turn(carry: tuple[Folded, Block], _: None) -> tuple[tuple[Folded, Block], None]:
            folded, block = carry
            block = jax.tree.map(lambda x: jax.lax.ppermute(x, AXIS, onward), block)
            return (fold(folded, block), block), None

        return jax.lax.scan(turn, (folded, block), None, length=ways - 1)[0][0]

    def _fold(
        self, folded: Folded, queries: tuple, block: Block, bias_HTS: jax.Array | None
    ) -> Folded:
        """One block of keys more."""
        q_BTGRK, segments_BT, places_T = queries
        scores_BGRTS = self.scale * jnp.einsum(
            'BTGRK,BSGK->BGRTS', q_BTGRK, block.k_BSGK, preferred_element_type=jnp.float32
        )
        if bias_HTS is not None:
            groups, repeats = scores_BGRTS.shape[1:3]
            scores_BGRTS += bias_HTS.reshape(groups, repeats, *bias_HTS.shape[1:])
        mask_BTS = segments_BT[:, :, None] == block.segments_BS[:, None, :]
        distance_TS = places_T[:, None] - block.places_S[None, :]
        if self.causal:
            seen_BTS = (distance_TS >= 0)[None]
            if block.prefix_BS is not None:
                seen_BTS |= block.prefix_BS[:, None, :]
            mask_BTS &= seen_BTS
        if self.window is not None:
            near_TS = distance_TS if self.causal else jnp.abs(distance_TS)
            mask_BTS &= near_TS < self.window
        scores_BGRTS = jnp.where(mask_BTS[:, None, None], scores_BGRTS, _HIDDEN)
        # What comes out does not depend on it. The gradient of a maximum divides by how many scores
        # equal it: none, where a compiler rounds scores that it computes anew in another way.
        largest = jnp.maximum(folded.largest_BGRT, jax.lax.stop_gradient(scores_BGRTS).max(-1))
        weights_BGRTS = jnp.exp(scores_BGRTS - largest[..., None])
        weights_BGRTS = jnp.where(mask_BTS[:, None, None], weights_BGRTS, 0)
        kept_BGRT = jnp.exp(folded.largest_BGRT - largest)
        seen_BTGRK = folded.seen_BTGRK * _per_query(kept_BGRT) + jnp.einsum(
            'BGRTS,BSGK->BTGRK', weights_BGRTS, block.v_BSGK.astype(jnp.float32)
        )
        return Folded(largest, folded.total_BGRT * kept_BGRT + weights_BGRTS.sum(-1), seen_BTGRK)


_HIDDEN = -1e30
"""Below any score, and finite: differences of two of it are no nan."""


def _nothing(q_BTGRK: jax.Array) -> Folded:
    """Before any key is seen."""
    b, t, g, r, _ = q_BTGRK.shape
    zero = jnp.zeros((b, g, r, t), jnp.float32)
    return Folded(zero + _HIDDEN, zero, jnp.zeros(q_BTGRK.shape, jnp.float32))


def _divided(folded: Folded) -> jax.Array:
    # Every query sees itself, so the total is at least 1 in exact arithmetic.
    return folded.seen_BTGRK / _per_query(folded.total_BGRT)


def _per_query(x_BGRT: jax.Array) -> jax.Array:
    return x_BGRT.transpose(0, 3, 1, 2)[..., None]


def _deals() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where each device's first and second stretch go: stretch c to device c, or 2n - 1 - c."""
    ways = jax.lax.axis_size(AXIS)

    def to(stretch: int) -> int:
        return min(stretch, 2 * ways - 1 - stretch)

    return (
        [(i, to(2 * i)) for i in range(ways)],
        [(i, to(2 * i + 1)) for i in range(ways)],
    )


def _dealt(x: jax.Array, axis: int) -> jax.Array:
    """Of neighbouring stretches 2i and 2i + 1, the stretches i and 2n - 1 - i."""
    first, second = jnp.split(x, 2, axis)
    to_first, to_second = _deals()
    a = jax.lax.ppermute(first, AXIS, to_first)  # stretches of even number
    b = jax.lax.ppermute(second, AXIS, to_second)
    even = jax.lax.axis_index(AXIS) % 2 == 0
    return jnp.concatenate([jnp.where(even, a, b), jnp.where(even, b, a)], axis)


def _gathered_back(x: jax.Array, axis: int) -> jax.Array:
    """The inverse of `_dealt`."""
    early, late = jnp.split(x, 2, axis)
    even = jax.lax.axis_index(AXIS) % 2 == 0
    to_first, to_second = _deals()
    a, b = jnp.where(even, early, late), jnp.where(even, late, early)
    first = jax.lax.ppermute(a, AXIS, [(to, source) for source, to in to_first])
    second = jax.lax.ppermute(b, AXIS, [(to, source) for source, to in to_second])
    return jnp.concatenate([first, second], axis)
