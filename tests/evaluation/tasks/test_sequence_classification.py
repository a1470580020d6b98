"""Measures of labels against scikit-learn's."""

import numpy as np
import pytest

from lm.evaluation.examples import Answer
from lm.evaluation.tasks.sequence_classification import MEASURES, measures


@pytest.mark.parametrize('labels', [2, 4])
def test_measures_are_those_of_scikit_learn(labels: int) -> None:
    metrics = pytest.importorskip('sklearn.metrics')
    rng = np.random.default_rng(labels)
    expected = rng.integers(0, labels, 60)
    said = np.where(rng.random(60) < 0.6, expected, rng.integers(0, labels, 60))
    found = measures(
        [Answer(str(a), str(b)) for a, b in zip(expected, said, strict=True)], MEASURES
    )
    assert found['accuracy'] == pytest.approx(metrics.accuracy_score(expected, said))
    assert found['macro_f1'] == pytest.approx(metrics.f1_score(expected, said, average='macro'))
    assert found['matthews'] == pytest.approx(metrics.matthews_corrcoef(expected, said))


def test_one_answer_to_all_tells_nothing() -> None:
    found = measures([Answer('a', 'a'), Answer('b', 'a')], MEASURES)
    assert found['accuracy'] == 0.5
    assert found['matthews'] == 0
    assert found['macro_f1'] == pytest.approx((2 / 3) / 2)
