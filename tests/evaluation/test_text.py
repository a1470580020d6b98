"""The score of a text against a loop over its windows."""

import math

import numpy as np
import pytest

from lm.batch import Batch
from lm.errors import UserError
from lm.evaluation.heldout import Score, score_batches, text_windows, without_document_ends
from lm.evaluation.text import score_text
from lm.objectives._objective import Sums
from tests.generation.tiny import Letters, language_model

V = Letters.vocabulary
SEQ_LEN = 16  # of the tiny config
TEXTS = ['a', 'a text of a few windows. ' * 3, 'b' * SEQ_LEN, 'c' * (2 * SEQ_LEN + 1)]


@pytest.mark.parametrize('length', [1, 2, 6, 7, 12, 13, 24, 25])
@pytest.mark.parametrize('batch_size', [1, 2, 5])
def test_every_token_is_a_target_once_after_the_one_before_it(length: int, batch_size: int) -> None:
    tokens = np.arange(100, 100 + length, dtype=np.int32)
    batches = list(text_windows(tokens, V, seq_len=6, batch_size=batch_size))
    assert len(batches) == math.ceil(math.ceil(length / 6) / batch_size)
    pairs = []
    for batch in batches:
        assert all(x.shape == (batch_size, 6) for x in batch if x is not None)
        real = batch.loss_weights > 0
        np.testing.assert_array_equal(real, batch.segment_ids == 1)
        pairs += list(zip(batch.tokens[real], batch.targets[real], strict=True))
        np.testing.assert_array_equal(batch.positions[real], np.nonzero(real)[1])
    assert pairs == [(V.bos_id, 100), *((t - 1, t) for t in range(101, 100 + length))]


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


def test_only_a_decoder_has_a_likelihood() -> None:
    for name in ('bert', 't5'):
        with pytest.raises(UserError, match=f'--text: {name} is of the encoder'):
            score_text(language_model(name), 'abc', 1)


def test_sums_are_added_before_they_are_divided() -> None:
    sums = iter([Sums(np.float32(6), np.float32(2)), Sums(np.float32(1), np.float32(8))])
    batch = Batch(*(np.zeros((1, 1), np.int32),) * 3)
    score = score_batches(lambda params, batch: next(sums), {}, [batch, batch])
    assert score == Score(7.0, 10.0)
    assert score.loss == 0.7
    assert score.bits_per_byte(20) == pytest.approx(7 / math.log(2) / 20)


def test_the_end_of_a_document_is_no_part_of_its_text() -> None:
    [batch] = text_windows(np.array([20, V.eos_id, 21], np.int32), V, seq_len=4, batch_size=1)
    counted = without_document_ends(batch, V)
    assert batch.loss_weights.tolist() == [[1, 1, 1, 0]]
    assert counted.loss_weights.tolist() == [[1, 0, 1, 0]]
    assert counted.loss_weights.dtype == np.float32
