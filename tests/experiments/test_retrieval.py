"""The experiment on retrieval: its questions, its measures, and BM25 by the formula."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.retrieval import Questions, analyze, bm25, measures, ranks, read_questions
from lm.errors import UserError

PARAGRAPHS = ['Red cats run fast', 'Blue dogs run and run', 'Green birds sing songs daily']


def test_questions_know_their_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / 'q.json'
    articles = [
        [{'context': 'a', 'qas': [{'question': 'q'}, {'question': 'r'}]}],
        [{'context': 'b', 'qas': []}, {'context': 'c', 'qas': [{'question': 's'}]}],
    ]
    path.write_text(json.dumps({'data': [{'paragraphs': each} for each in articles]}))
    found = read_questions(str(path))
    assert found.paragraphs == ['a', 'b', 'c'] and found.questions == ['q', 'r', 's']
    assert found.right_Q.tolist() == [0, 0, 2]
    for content, line in (
        ('{"data": 1}', "is not in SQuAD's layout"),
        ('{"data": []}', 'no question'),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=line):
            read_questions(str(path))


def test_measures_are_those_of_sorting() -> None:
    rng = np.random.default_rng(0)
    scores_QP, right_Q = rng.standard_normal((50, 30)), rng.integers(30, size=50)
    want = [
        1 + sorted(range(30), key=lambda p, row=row: -row[p]).index(right)
        for row, right in zip(scores_QP, right_Q, strict=True)
    ]
    got = ranks(scores_QP, right_Q)
    assert got.tolist() == want
    told = measures(got)
    assert told['recall_at_1'] == sum(rank == 1 for rank in want) / 50
    assert told['recall_at_10'] == sum(rank <= 10 for rank in want) / 50
    assert told['mrr'] == pytest.approx(sum(1 / rank for rank in want) / 50)
    # What scores as high comes before it: no way gains from saying the same of all.
    assert ranks(np.zeros((1, 30)), np.array([4])).tolist() == [30]


def test_bm25_is_the_formula_of_lucene() -> None:
    pytest.importorskip('bm25s', reason='of the extra peers')
    asked = Questions(PARAGRAPHS, ['do dogs run?', 'green songs'], np.array([1, 2]))
    documents = [re.findall(r'\w\w+', text.lower()) for text in PARAGRAPHS]
    documents = [[word for word in each if word != 'and'] for each in documents]
    mean = sum(map(len, documents)) / 3

    def score(question: list[str], document: list[str]) -> float:
        total = 0.0
        for word in question:
            holding, times = sum(word in each for each in documents), document.count(word)
            idf = math.log(1 + (3 - holding + 0.5) / (holding + 0.5))
            total += idf * times / (times + 1.5 * (0.25 + 0.75 * len(document) / mean))
        return total

    words = [['do', 'dogs', 'run'], ['green', 'songs']]
    want = [[score(question, document) for document in documents] for question in words]
    got = bm25(asked)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    told = analyze({'lm': np.array([[1, 0, 0], [0, 0, 1]]), 'bm25': got}, asked)
    assert told['bm25']['recall_at_1'] == 1 and told['lm']['recall_at_1'] == 0.5
    assert told['only_right'] == {'lm': 0, 'bm25': 1}
