"""Rules that read no question, and intervals, against closed forms and scipy."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from lm.evaluation.in_context.answers import is_right, normalised
from lm.evaluation.in_context.baselines import answer_baselines, choice_baselines, wilson
from lm.evaluation.in_context.records import Question, read_records
from lm.evaluation.in_context.task import read_task
from tests.data.corpora import corpus
from tests.evaluation.in_context.tiny import question


@pytest.mark.parametrize(('hits', 'count'), [(0, 7), (7, 7), (3, 11), (55, 100), (1, 500)])
def test_intervals_are_wilsons(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method='wilson')
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_rules_that_read_no_question() -> None:
    asked = [
        question('a', 'x', 'xyz', gold=0),  # the shortest
        question('b', 'x', 'y', 'xyz', gold=1),  # one of two that are equally short
        question('c', 'x', 'xyz', gold=1),  # the longest
        question('d', 'xyz', 'xyz', gold=1),  # both
    ]
    lengths = [np.array([len(choice) for choice in q.choices]) for q in asked]
    assert choice_baselines(asked, lengths) == pytest.approx(
        {
            'chance': (1 / 2 + 1 / 3 + 1 / 2 + 1 / 2) / 4,
            'shortest': (1 + 1 / 2 + 0 + 1 / 2) / 4,
            'longest': (0 + 0 + 1 + 1 / 2) / 4,
            'majority': 3 / 4,
        }
    )


def test_of_copa_the_first_choice_is_right_in_55_of_100() -> None:
    file = corpus('tasks/icl/copa.jsonl')
    asked = read_records(read_task('copa'), str(file), 'task_data').asked
    gold = [json.loads(line)['gold'] for line in file.read_text().splitlines()]
    lengths = [np.array([len(choice.split()) for choice in q.choices]) for q in asked]
    found = choice_baselines(asked, lengths)
    assert found['majority'] == 0.55 == gold.count(0) / 100
    assert found['chance'] == 0.5
    assert found['shortest'] + found['longest'] == pytest.approx(1)


def test_written_answers_are_compared_as_squad_compares() -> None:
    assert normalised(' The  Cat, sat. On A mat!\n') == 'cat sat on mat'
    assert normalised('The') == 'the' and normalised('?') == '?'
    assert is_right('the Answer.', ['no', 'answer'])
    assert not is_right('answers', ['answer']) and not is_right('', ['a'])


def test_the_commonest_answer_is_a_baseline() -> None:
    def asked(*answers: str) -> Question:
        return Question('here', 'q', (), None, answers)

    found = answer_baselines([asked('Yes', 'yes.'), asked('no', 'yes'), asked('no')], normalised)
    assert found == {'majority': 2 / 3}
