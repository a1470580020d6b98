"""SQuAD's measures by hand, and answers put together from windows."""

import pytest

from lm.evaluation.examples import Answer
from lm.evaluation.tasks.question_answering import (
    Said,
    best_of,
    exact_match,
    f1,
    measures,
    normalised,
)


@pytest.mark.parametrize(
    ('expected', 'said', 'exact', 'overlap'),
    [
        ('the Rome.', 'rome', 1, 1),
        ('May 4th', 'on May 4th', 0, 0.8),
        ('a, b a b', 'b, b', 1, 1),
        ('x x y', 'x z', 0, 0.4),
        ('Rome', '', 0, 0),
        ('', '', 1, 1),
        ('', 'Rome', 0, 0),
        ('An-Nasr', 'annasr', 1, 1),
        ('Theater, the', 'theater', 1, 1),
    ],
)
def test_one_answer(expected: str, said: str, exact: float, overlap: float) -> None:
    assert exact_match(expected, said) == exact
    assert f1(expected, said) == pytest.approx(overlap)


def test_articles_go_after_punctuation_as_in_the_script() -> None:
    assert normalised('"The"  A.D. the-end') == 'ad theend'


def test_the_best_of_several_right_answers_counts() -> None:
    found = [
        Answer(['in Rome', 'Rome'], 'Rome'),
        Answer(['four men', 'the'], 'four'),
        Answer([], ''),
        Answer(['the'], ''),
        Answer(['Rome', 'the'], ''),  # an article is no answer where there is another one
    ]
    assert measures(found, ()) == {'exact_match': 0.6, 'f1': pytest.approx((1 + 2 / 3 + 2) / 5)}


def test_the_likeliest_window_answers() -> None:
    windows = [Said('ab', 1.0, 9.0), Said('def', 2.0, 2.5)]
    assert best_of(windows, may_be_none=False) == 'def'
    # No answer is said where bos is likelier than the best span even where it is least likely.
    assert best_of(windows, may_be_none=True) == ''
    assert best_of([*windows, Said('x', 0.0, 1.9)], may_be_none=True) == 'def'
