"""Drawing noise spans: how many tokens and spans each segment gets, and where they fall."""

import numpy as np
from jaxtyping import Integer


def apportion(
    total: int, sizes: Integer[np.ndarray, ' k'], most: Integer[np.ndarray, ' k']
) -> Integer[np.ndarray, ' k']:
    """Integers in [1, most] in proportion to `sizes`, with sum `total` if the bounds allow.

    Largest remainders first; what a bound refuses goes to the shares furthest below their due.
    """
    due = total * sizes / max(sizes.sum(), 1)
    shares = np.clip(np.floor(due).astype(np.int64), 1, np.maximum(most, 1))
    while shares.sum() != total:
        step = 1 if shares.sum() < total else -1
        free = shares < most if step > 0 else shares > 1
        if not free.any():
            break
        lack = np.where(free, (due - shares) * step, -np.inf)
        shares[np.argmax(lack)] += step
    return shares


def choose_segments(
    lengths: Integer[np.ndarray, ' k'], most: int, rng: np.random.Generator, least: int = 2
) -> Integer[np.ndarray, ' c']:
    """Indices, in order, of at most `most` segments of `least` tokens or more.

    Where there are more, they are drawn without replacement in proportion to their lengths.
    """
    long_enough = np.flatnonzero(lengths >= least)
    if len(long_enough) <= most:
        return long_enough
    shares = lengths[long_enough] / lengths[long_enough].sum()
    return np.sort(rng.choice(long_enough, size=most, replace=False, p=shares))


def noise_spans(
    length: int, noise: int, spans: int, rng: np.random.Generator
) -> Integer[np.ndarray, 'spans 2']:
    """Start and end of `spans` noise spans of `noise` tokens in a text of `length`: [spans, 2].

    As T5 draws them: kept and noise stretches in turn, beginning with a kept one and ending with
    a noise one, each sequence of stretches a uniform composition of its total into positive parts.
    """
    kept = _composition(length - noise, spans, rng)
    hidden = _composition(noise, spans, rng)
    ends = np.cumsum(kept + hidden)
    return np.stack([ends - hidden, ends], axis=1)


def _composition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`parts` positive integers of sum `total`, all such sequences equally likely."""
    cuts = np.sort(rng.choice(total - 1, size=parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
