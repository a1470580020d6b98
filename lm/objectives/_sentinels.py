"""Noise spans of a text replaced by sentinels (Raffel et al. 2020, figure 2), and put back."""

from collections.abc import Sequence

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
      noise: start and end of each span, of a token or more; no more spans than sentinels.
      vocabulary: its sentinels and eos.
      before: ids that the inputs begin with.
    """
    starts, ends = noise.T
    sentinels = np.array(vocabulary.sentinel_ids[: len(noise)], np.int32)
    # +1 where a span starts and -1 where it ends, summed: 1 within spans.
    steps = np.zeros(len(text) + 1, np.int8)
    steps[starts] += 1
    steps[ends] -= 1
    hidden = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    # A span's sentinel stands where its first token was.
    shown = text.astype(np.int32)
    shown[starts] = sentinels
    stays = ~hidden
    stays[starts] = True
    # The k-th sentinel of the targets is behind k others and the tokens of the spans before it.
    places = np.cumsum(ends - starts) - (ends - starts) + np.arange(len(noise))
    is_token = np.ones(len(noise) + np.count_nonzero(hidden) + 1, bool)
    is_token[places] = is_token[-1] = False
    targets = np.full(len(is_token), vocabulary.eos_id, np.int32)
    targets[places] = sentinels
    targets[is_token] = text[hidden]
    inputs = np.concatenate([before, shown[stays], [vocabulary.eos_id]])
    return inputs.astype(np.int32), targets


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
