"""A bigram model: what a trained model has to be better than.

It interpolates bigram, unigram and uniform shares with weights by how often the context was seen,
fitted by expectation maximisation on pairs that were not counted (Jelinek & Mercer 1980).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Pairs(NamedTuple):
    """Targets, each with the token before it, int64 [n]."""

    before: Int[np.ndarray, ' n']
    target: Int[np.ndarray, ' n']


def joined(parts: Iterable[Pairs]) -> Pairs:
    """Pairs one after another."""
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Bigram:
    """P(target | before) as a mixture of three relative frequencies.

    Attributes:
      size: V, ids there are.
      codes, counts: before * V + target of each pair that was seen, sorted, and how often.
      contexts, targets: how often each id was seen before, and as target, [V].
      weights: of bigram, unigram and uniform share, by the binary digits of `contexts`, [C, 3].
    """

    size: int
    codes: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    targets: np.ndarray
    weights: Float[np.ndarray, 'C 3']

    def nats(self, pairs: Pairs) -> float:
        """-log P summed over the pairs."""
        mixed = (self._shares(pairs) * self.weights[self._rarity(pairs)]).sum(axis=1)
        return float(-np.log(mixed).sum())

    def tuned(self, pairs: Pairs, rounds: int = 30) -> 'Bigram':
        """With the weights under which `pairs` are likeliest, by expectation maximisation."""
        shares, rarity = self._shares(pairs), self._rarity(pairs)
        weights = self.weights
        for _ in range(rounds):
            due = shares * weights[rarity]
            due /= due.sum(axis=1, keepdims=True)
            # A thousandth of a pair each, so that no weight is 0.
            totals = np.full_like(weights, 1e-3)
            np.add.at(totals, rarity, due)
            weights = totals / totals.sum(axis=1, keepdims=True)
        return replace(self, weights=weights)

    def _rarity(self, pairs: Pairs) -> np.ndarray:
        return np.ceil(np.log2(self.contexts[pairs.before] + 1)).astype(np.int64)

    def _shares(self, pairs: Pairs) -> np.ndarray:
        codes = pairs.before * self.size + pairs.target
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        seen = np.where(self.codes[places] == codes, self.counts[places], 0)
        unigram = self.targets[pairs.target] / self.targets.sum()
        contexts = self.contexts[pairs.before]
        # Behind a token that was never seen before another, only the target itself tells anything.
        bigram = np.where(contexts > 0, seen / np.maximum(contexts, 1), unigram)
        return np.stack([bigram, unigram, np.full(len(codes), 1 / self.size)], axis=1)


def counted(pairs: Pairs, size: int) -> Bigram:
    """The frequencies of `pairs`, equally weighted."""
    codes, counts = np.unique(pairs.before * size + pairs.target, return_counts=True)
    contexts = np.bincount(pairs.before, minlength=size)
    rarities = int(np.ceil(np.log2(np.max(contexts) + 1))) + 1
    return Bigram(
        size, codes, counts, contexts, np.bincount(pairs.target, minlength=size),
        np.full((rarities, 3), 1 / 3),
    )  # fmt: skip
