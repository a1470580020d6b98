"""Error rates by edit distance: of phonemes, characters or words, and of whole sequences.

As speech recognition and pronunciation report them (NIST's sclite; Bisani and Ney 2008, section
4.1): of an answer with several right ones the nearest counts, and lengths add up over the corpus,
so that the rate of tokens is no mean of rates.
"""

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np

Tokens: TypeAlias = Sequence[Hashable]
"""A sequence of what is compared by equality: phonemes, words, or a string's characters."""


def edit_distance(said: Tokens, reference: Tokens) -> int:
    """The fewest insertions, deletions and substitutions between them (Levenshtein 1966)."""
    numbers: dict[Hashable, int] = {}
    said_N, reference_M = (
        np.array([numbers.setdefault(token, len(numbers)) for token in tokens], np.int64)
        for tokens in (said, reference)
    )
    columns = np.arange(len(reference_M) + 1)
    above = columns
    for row, token in enumerate(said_N, 1):
        here = np.minimum(above[1:] + 1, above[:-1] + (reference_M != token))
        # An insertion adds 1 a column: the least of all to the left, with the way from there.
        here = np.concatenate([[row], here])
        above = np.minimum.accumulate(here - columns) + columns
    return int(above[-1])


def token_error_rate(said: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """Edits to the nearest references, over the lengths of these: a share, that may exceed 1.

    Args:
      said: an answer an example.
      references: of each example those that are right, one at least. Of equally near ones the
        longest counts.

    Raises:
      ValueError: not as many examples, one without a reference, or references without a token.
    """
    edits = length = 0
    for answer, right in zip(said, references, strict=True):
        nearest, negative = min((edit_distance(answer, each), -len(each)) for each in right)
        edits, length = edits + nearest, length - negative
    if length == 0:
        raise ValueError('the references hold no token, so there is no rate of errors')
    return edits / length


def sequence_error_rate(said: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """The share of answers that equal none of their references: the word error rate, where an
    example is a word.

    Arguments as of `token_error_rate`.

    Raises:
      ValueError: not as many examples, one without a reference, or none at all.
    """
    wrong = [
        min(tuple(answer) != tuple(each) for each in right)
        for answer, right in zip(said, references, strict=True)
    ]
    if not wrong:
        raise ValueError('there is no answer, so there is no rate of errors')
    return sum(wrong) / len(wrong)
