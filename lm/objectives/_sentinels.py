"""Noise spans of a text replaced by sentinels (Raffel et al. 2020, figure 2), and put back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from lm.objectives._rows import Pair
from lm.objectives._spans import apportion
from lm.vocabulary import Vocabulary


def noise_of(length: int, noise_rate: float, mean_span_length: float) -> tuple[int, int]:
    """N and S of a text of `length` tokens, rounded as T5 does; each span has a kept token."""
    noise = min(max(round(length * noise_rate), 1), length - 1)
    spans = max(round(noise / mean_span_length), 1)
    return noise, min(spans, length - noise)


def shares_of(
    lengths: Integer[np.ndarray, ' k'], noise: int, spans: int, added: int
) -> tuple[Integer[np.ndarray, ' k'], Integer[np.ndarray, ' k']]:
    """Noise tokens and spans of each of k texts, of which all together have about as many as given.

    A text after the first costs `added` more tokens of inputs, and so many fewer spans are drawn,
    but at least one a text.
    """
    if len(lengths) == 0:
        return lengths, lengths
    texts = len(lengths)
    noises = apportion(max(noise, texts), lengths, most=lengths - 1)
    spans = max(spans - added * (texts - 1), texts)
    # A span has at least one token, and at least one kept token before it.
    return noises, apportion(spans, noises, most=np.minimum(noises, lengths - noises))


def corrupt(
    text: np.ndarray,
    noise: Integer[np.ndarray, 'spans 2'],
    vocabulary: Vocabulary,
    before: Sequence[int] = (),
) -> Pair:
    """Inputs and targets of one text, each with eos behind it.

    Args:
      text: its tokens.
      noise: start and end of each span.
      vocabulary: its sentinels and eos.
      before: ids that the inputs begin with.
    """
    inputs: list[Any] = [before]
    targets: list[Any] = []
    kept = 0
    for sentinel, (start, end) in zip(vocabulary.sentinel_ids, noise, strict=False):
        inputs += [text[kept:start], [sentinel]]
        targets += [[sentinel], text[start:end]]
        kept = end
    eos = [vocabulary.eos_id]
    return (
        np.concatenate([*inputs, text[kept:], eos]).astype(np.int32),
        np.concatenate([*targets, eos]).astype(np.int32),
    )


def restored(pair: Pair, vocabulary: Vocabulary) -> np.ndarray:
    """The text of its inputs, without what stood before it, and targets."""
    inputs, answer = (side[:-1] for side in pair)
    parts = np.split(answer, np.flatnonzero(np.isin(answer, vocabulary.sentinel_ids)))
    spans = {int(part[0]): part[1:] for part in parts if len(part)}
    pieces = [spans.get(int(token), np.array([token])) for token in inputs]
    return np.concatenate(pieces) if pieces else np.array([], np.int32)


def raw_tokens(tokens: np.ndarray, there: np.ndarray, vocabulary: Vocabulary) -> int:
    """How many of the tokens that are there came from the text and were not added here."""
    added = [*vocabulary.sentinel_ids, *vocabulary.mode_ids, vocabulary.eos_id]
    return int(np.count_nonzero(there & ~np.isin(tokens, added)))
