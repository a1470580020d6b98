"""The answers to what models were asked: many rows at a time, drawn or searched for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int, Key

from lm.batch import Batch
from lm.config import require
from lm.generation.asked import Asked
from lm.generation.beams import beam_search
from lm.generation.decode import decode
from lm.generation.growing import Growing
from lm.generation.language_model import LanguageModel
from lm.generation.rows import never, padded_rows
from lm.generation.sampling import Sampling

ROWS = 64
"""Texts that are decoded at a time."""
UNHEARD = 16
"""Tokens between two looks for a stop string, where nobody listens."""


@dataclass(frozen=True)
class Search:
    """A beam search.

    Attributes:
      num_beams: texts that are followed at a time, of each prompt.
      length_penalty: power of the length that log-probabilities are divided by.

    Raises:
      UserError: fewer than one beam.
    """

    num_beams: int
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        require(self.num_beams >= 1, f'num_beams={self.num_beams}: must be at least 1')


def drawn(
    model: LanguageModel,
    asked: Sequence[Asked],
    sampling: Sampling,
    keys_JN: Key[jax.Array, 'J N'],
    max_new_tokens: int,
    stop: Sequence[str] = (),
    on_text: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Texts drawn token by token, N of each prompt, one after another.

    Args:
      model: who is asked.
      asked: J prompts.
      sampling: how a token is chosen.
      keys_JN: a random key a text.
      max_new_tokens: tokens added at most.
      stop: strings of which the first to be whole ends a decoder's answer.
      on_text: hears of a decoder's answers as they come.
    """
    rows = [one for one in asked for _ in range(keys_JN.shape[1])]
    growing, keys_R = [Growing(one.said, stop) for one in rows], keys_JN.reshape(-1)
    for chosen in _alike(rows, ROWS):
        hear = partial(_hear, {i: growing[i] for i in chosen}, rows[chosen[0]].ends, on_text)
        out = decode(
            model.functional,
            model.params,
            **decoded_from(model, [rows[i] for i in chosen], max_new_tokens),
            sampling=sampling,
            keys_B=keys_R[np.array(chosen)],
            watch=hear if stop or on_text else None,
            every=1 if on_text else UNHEARD,
        )
        hear(out.tokens_BN, ended=True)
    return [one.before + grown.text for one, grown in zip(rows, growing, strict=True)]


def searched(
    model: LanguageModel,
    asked: Sequence[Asked],
    search: Search,
    count: int,
    max_new_tokens: int,
) -> list[str]:
    """The likeliest texts that a search finds, the best `count` of each prompt, best first.

    Args:
      model: who is asked.
      asked: prompts.
      search: how wide it is, and what is likeliest.
      count: texts of a prompt; no more than there are beams.
      max_new_tokens: tokens added at most.

    Raises:
      UserError: more beams than the vocabulary has tokens for.
    """
    texts: dict[int, list[str]] = {}
    for chosen in _alike(asked, max(1, ROWS // search.num_beams)):
        found = beam_search(
            model.functional,
            model.params,
            **decoded_from(model, [asked[j] for j in chosen], max_new_tokens),
            num_beams=search.num_beams,
            length_penalty=search.length_penalty,
        )
        for j, rows_KN in zip(chosen, found.tokens_BKN, strict=True):
            texts[j] = [asked[j].before + asked[j].said(row) for row in rows_KN[:count]]
    return [text for j in range(len(asked)) for text in texts[j]]


def _alike(asked: Sequence[Asked], at_most: int) -> Iterator[list[int]]:
    """The numbers of those that are decoded at a time: what ends an answer is the same for them."""
    by_ends: dict[tuple[int, ...], list[int]] = {}
    for i, one in enumerate(asked):
        by_ends.setdefault(one.ends, []).append(i)
    for alike in by_ends.values():
        for first in range(0, len(alike), at_most):
            yield alike[first : first + at_most]


def decoded_from(
    model: LanguageModel, asked: Sequence[Asked], max_new_tokens: int
) -> dict[str, Any]:
    """The arguments of `decode` and `beam_search` that rows decide."""
    begun = [one.begun for one in asked]
    sources = [one.source for one in begun if one.source is not None]
    prefixes = [one.prefix for one in begun if one.prefix is not None]
    return {
        'given': [one.given for one in begun],
        'source': Batch(*padded_rows(model, sources)) if sources else None,
        'prefix': prefixes or None,
        'window': model.context,
        'forbidden': never(model, begun[0].allowed),
        'ends': asked[0].ends,
        'max_new_tokens': max_new_tokens,
    }


def _hear(
    growing: Mapping[int, Growing],
    ends: tuple[int, ...],
    on_text: Callable[[int, str], None] | None,
    tokens_BN: Int[np.ndarray, 'B n'],
    *,
    ended: bool = False,
) -> Bool[np.ndarray, ' B']:
    """Lets texts grow, tells what was added, and says which came to a stop."""
    ended_B = [ended or bool(np.isin(row, ends).any()) for row in tokens_BN]
    for (i, one), row, no_more in zip(growing.items(), tokens_BN, ended_B, strict=True):
        piece = one.grown(row, ended=no_more)
        if on_text is not None and piece:
            on_text(i, piece)
    return np.array([one.stopped for one in growing.values()])
