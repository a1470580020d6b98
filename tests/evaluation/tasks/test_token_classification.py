"""Entities against the package seqeval, which is how the field counts them."""

import random
import warnings
from typing import Any

import pytest

from lm.evaluation.examples import Answer
from lm.evaluation.tasks.token_classification import MEASURES, Entity, entities, measures

TAGS = ('O', 'B-a', 'I-a', 'B-b', 'I-b')


@pytest.mark.parametrize('mode', ['default', 'strict'])
def test_measures_are_those_of_seqeval(mode: str) -> None:
    metrics = pytest.importorskip('seqeval.metrics', reason='the extra peers is not installed')
    from seqeval.scheme import IOB2

    how: dict[str, Any] = {'zero_division': 0}
    if mode == 'strict':
        how |= {'mode': 'strict', 'scheme': IOB2}
    before = 'strict_' if mode == 'strict' else ''
    draw = random.Random(0)
    for _ in range(150):
        counts = [draw.randint(1, 8) for _ in range(draw.randint(1, 4))]
        expected = [draw.choices(TAGS, k=count) for count in counts]
        said = [[draw.choice([t, t, *TAGS]) for t in tags] for tags in expected]
        found = measures([*map(Answer, expected, said)], MEASURES)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            for name in ('f1', 'precision', 'recall'):
                theirs = getattr(metrics, f'{name}_score')(expected, said, **how)
                assert found[f'{before}entity_{name}'] == pytest.approx(theirs, abs=1e-12)
            assert found['tag_accuracy'] == metrics.accuracy_score(expected, said)


def test_where_an_entity_begins() -> None:
    tags = ['I-a', 'I-a', 'B-a', 'I-b', 'O', 'I-b']
    assert entities(tags) == [
        Entity('a', 0, 1), Entity('a', 2, 2), Entity('b', 3, 3), Entity('b', 5, 5),
    ]  # fmt: skip
    assert entities(tags, strict=True) == [Entity('a', 2, 2)]


def test_a_word_that_no_token_stands_for_counts_as_outside() -> None:
    found = measures([Answer(['B-a', 'O', 'B-a'], [None, None, 'B-a'])], MEASURES)
    assert found['unread_words'] == 2
    assert found['entity_recall'] == 0.5 and found['entity_precision'] == 1
    assert found['tag_accuracy'] == pytest.approx(2 / 3)


def test_nothing_to_find_is_no_error() -> None:
    found = measures([Answer(['O'], ['O'])], MEASURES)
    assert {*found} == {*MEASURES}
    assert found['entity_f1'] == found['entity_precision'] == found['entity_recall'] == 0
