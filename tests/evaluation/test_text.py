"""The score of a text against a loop over its windows."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from lm.batch import Batch
from lm.errors import UserError
from lm.evaluation.heldout import Score, score_batches, without_document_ends
from lm.evaluation.text import score_text
from lm.objectives import clm
from lm.objectives._objective import Sums
from tests.generation.tiny import Letters, language_model

V = Letters.vocabulary
SEQ_LEN = 16  # of the tiny config
TEXTS = ['a', 'a text of a few windows. ' * 3, 'b' * SEQ_LEN, 'c' * (2 * SEQ_LEN + 1)]


def in_numpy(text: str) -> float:
    """Nats of the text in float64, one window after another, each by itself."""
    model = language_model('llama')
    tokens = [V.bos_id, *model.tokenizer.encode(text).tolist()]
    nats = 0.0
    for start in range(0, len(tokens) - 1, SEQ_LEN):
        window = tokens[start : start + SEQ_LEN + 1]
        seen = np.zeros((1, SEQ_LEN), np.int32)
        seen[0, : len(window) - 1] = window[:-1]
        x = np.asarray(model.logits(seen)[0], np.float64)
        for row, target in zip(x, window[1:], strict=False):
            nats += math.log(np.exp(row - row.max()).sum()) + row.max() - row[target]
    return nats


@pytest.mark.parametrize('text', TEXTS)
@pytest.mark.parametrize('batch_size', [1, 4])
def test_a_texts_score(text: str, batch_size: int) -> None:
    score = score_text(language_model('llama'), text, batch_size)
    nats = in_numpy(text)
    assert score['tokens'] == score['bytes'] == len(text)
    assert score['loss'] == pytest.approx(nats / len(text), rel=1e-6)
    assert score['bits_per_byte'] == pytest.approx(nats / math.log(2) / len(text), rel=1e-6)


def test_bits_per_byte_count_bytes_and_not_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Letters, 'encode', lambda self, text: np.full(len(text), 20, np.int32))
    score = score_text(language_model('llama'), 'é€', 1)
    assert (score['tokens'], score['bytes']) == (2, 5)
    assert score['bits_per_byte'] * 5 == pytest.approx(score['loss'] * 2 / math.log(2))


def test_what_the_tokenizer_does_not_know_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([20, V.unk_id, 21, V.unk_id], np.int32)
    monkeypatch.setattr(Letters, 'encode', lambda self, text: ids)
    assert score_text(language_model('llama'), 'four', 1)['unknown_tokens'] == 2


def test_a_score_that_is_not_finite_is_refused() -> None:
    model = language_model('llama')
    damaged = replace(model, params=jax.tree.map(lambda leaf: leaf * np.nan, model.params))
    with pytest.raises(UserError, match='1 of 1 log-likelihoods are not finite'):
        score_text(damaged, 'a text', 1)


def test_sums_are_added_before_they_are_divided() -> None:
    sums = iter([Sums(np.float32(6), np.float32(2)), Sums(np.float32(1), np.float32(8))])
    batch = Batch(*(np.zeros((1, 1), np.int32),) * 3)
    score = score_batches(lambda params, batch: next(sums), {}, [batch, batch])
    assert score == Score(7.0, 10.0)
    assert score.loss == 0.7
    assert score.bits_per_byte(20) == pytest.approx(7 / math.log(2) / 20)


def test_the_end_of_a_document_is_no_part_of_its_text() -> None:
    [row] = clm.CausalLM(V, target_len=4).text_rows(np.array([20, V.eos_id, 21], np.int32))
    counted = without_document_ends(row, V)
    assert row.loss_weights.tolist() == [1, 1, 1, 0]
    assert counted.loss_weights.tolist() == [1, 0, 1, 0]
    assert counted.loss_weights.dtype == np.float32
