"""Edit distances against a search of all edits, and the rates that are made of them."""

import itertools
import random
from collections.abc import Sequence

import pytest

from lm.evaluation.measures.edit_distance import (
    edit_distance,
    sequence_error_rate,
    token_error_rate,
)


def searched(said: str, right: str) -> int:
    """The fewest edits, by trying all that one more of them makes."""
    reached, edits = {said}, 0
    while right not in reached:
        edits += 1
        for text in tuple(reached):
            for at in range(len(text) + 1):
                reached.add(text[:at] + text[at + 1 :])
                for letter in 'ab':
                    reached.add(text[:at] + letter + text[at + 1 :])
                    reached.add(text[:at] + letter + text[at:])
        reached = {text for text in reached if len(text) <= max(len(said), len(right))}
    return edits


def test_distances_are_those_of_a_search() -> None:
    texts = [''.join(x) for n in range(4) for x in itertools.product('ab', repeat=n)]
    for said, right in itertools.product(texts, texts):
        assert edit_distance(said, right) == searched(said, right), (said, right)


def test_closed_forms() -> None:
    rng = random.Random(0)
    for n, m in [(0, 5), (7, 3), (9, 9)]:
        # Nothing in common: all are substituted, and the rest inserted or deleted.
        assert edit_distance([*range(n)], [*range(100, 100 + m)]) == max(n, m)
    word = rng.sample(range(50), 30)
    assert edit_distance(word, word) == 0
    assert edit_distance(word[3:], word) == 3 == edit_distance(word, word[:-3])
    assert edit_distance(['AH0', 'B'], ['AH', 'B']) == 1  # tokens, not characters


def said_and_right() -> tuple[list[Sequence[str]], list[list[Sequence[str]]]]:
    return ['kat', 'dog', 'cow'], [['cat', 'kart'], ['dog'], ['sheep', 'owl']]


def test_rates_are_of_the_corpus_and_the_nearest_references() -> None:
    said, right = said_and_right()
    # kat: 1 edit of cat and of kart, whose 4 letters count; dog: 0 of 3; cow: 2 of owl's 3.
    assert token_error_rate(said, right) == pytest.approx((1 + 0 + 2) / (4 + 3 + 3))
    assert token_error_rate(said, [[*reversed(each)] for each in right]) == pytest.approx(3 / 10)
    assert sequence_error_rate(said, right) == pytest.approx(2 / 3)
    assert sequence_error_rate([[*'dog']], [['dig', 'dog']]) == 0  # a list equals a string's
    assert token_error_rate(['aaaa'], [['a']]) == 3  # more than all of it


def test_what_has_no_rate_is_refused() -> None:
    for rate in (token_error_rate, sequence_error_rate):
        with pytest.raises(ValueError):
            rate(['a'], [])
        with pytest.raises(ValueError):
            rate(['a'], [[]])
        with pytest.raises(ValueError, match='no rate of errors'):
            rate([], [])
