"""The measures of Olsson et al. on models whose losses are known."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from lm.batch import Batch
from lm.errors import UserError
from lm.evaluation.in_context_learning import (
    in_context_score,
    nats_by_position,
    repeated_copying,
)
from lm.generation.language_model import Forward
from tests.generation.tiny import LETTERS, Letters, language_model

V = Letters.vocabulary


def test_losses_by_position_are_those_of_the_logits() -> None:
    model = language_model('llama')
    rng = np.random.default_rng(0)
    rows_NR = rng.integers(12, V.size, (5, 13)).astype(np.int32)
    inputs_NT, targets_NT = rows_NR[:, :-1], rows_NR[:, 1:]
    nats_NT, likeliest_NT = nats_by_position(model, inputs_NT, targets_NT, batch_size=2)
    log_p = log_softmax(np.asarray(model.logits(inputs_NT), np.float64), axis=-1)
    expected = -np.take_along_axis(log_p, targets_NT[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(nats_NT, expected, rtol=2e-5)
    assert (likeliest_NT == (log_p.argmax(axis=-1) == targets_NT)).all()


def test_the_score_is_the_late_loss_less_the_early_one() -> None:
    nats_NT = np.zeros((4, 600))
    nats_NT[:, 49] = [3, 4, 5, 6]  # the 50th token
    nats_NT[:, 499] = [2, 2, 3, 3]  # the 500th
    found = in_context_score(nats_NT)
    assert found['score'] == np.mean([-1, -2, -2, -3])
    assert found['standard_error'] == pytest.approx(np.std([1, 2, 2, 3], ddof=1) / 2)
    assert (found['early_loss'], found['late_loss']) == (4.5, 2.5)
    assert in_context_score(nats_NT, early=50, late=51)['score'] == -4.5
    with pytest.raises(UserError, match='early=50, late=500: must be in order and within the 499'):
        in_context_score(nats_NT[:, :499])
    with pytest.raises(UserError, match='texts: 1; an in-context'):
        in_context_score(nats_NT[:1])


def copying(self: Forward, params: Any, batch: Batch) -> jax.Array:
    """Logits that give 1/2 to what followed the same token before, the rest to any letter."""
    tokens = jnp.asarray(batch.tokens)
    rows, length = tokens.shape
    places = jnp.arange(length)
    same = (tokens[:, :, None] == tokens[:, None, :]) & (places[:, None] > places)
    last = jnp.max(jnp.where(same, places, -1), axis=2)
    following = jnp.take_along_axis(tokens, jnp.maximum(last + 1, 0), axis=1)
    p = jnp.full((rows, length, V.size), 1 / len(LETTERS)).at[:, :, :12].set(0)
    copied = jnp.zeros_like(p).at[jnp.arange(rows)[:, None], places, following].set(1)
    return jnp.log(jnp.where((last >= 0)[:, :, None], 0.5 * p + 0.5 * copied, p))


class Distinct:
    """Draws in which no letter comes twice."""

    def __init__(self, seed: int) -> None:
        pass

    def choice(self, ordinary: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return np.stack([ordinary[i : i + shape[1]] for i in range(shape[0])])


def test_copying_is_seen_in_a_model_that_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model('llama', context=60)
    monkeypatch.setattr(Forward, '__call__', copying)
    monkeypatch.setattr('numpy.random.default_rng', Distinct)
    found = repeated_copying(model, length=20, rows=3, batch_size=2)
    uniform = math.log(len(LETTERS))
    copied = -math.log(0.5 + 0.5 / len(LETTERS))
    assert found['first_loss'] == pytest.approx(uniform, rel=1e-5)
    assert found['second_loss'] == pytest.approx(copied, rel=1e-5)
    assert found['copying'] == pytest.approx(uniform - copied, rel=1e-5)
    assert found['accuracy'] == 1


def test_an_untrained_model_copies_nothing() -> None:
    model = language_model('llama', context=40)
    found = repeated_copying(model, length=20, rows=40, seed=1)
    assert abs(found['copying']) < 4 * found['standard_error']
    assert found['accuracy'] < 0.2
    # Only tokens that a text may hold.
    assert found['first_loss'] > math.log(len(LETTERS)) - 0.1


@pytest.mark.parametrize(
    ('name', 'length', 'line'),
    [
        ('t5', 4, 'model.name=t5: was trained by objective.name=span_corruption'),
        ('llama', 11, '22 tokens do not fit in model.max_positions=20'),
        ('llama', 1, 'length=1, rows=64: must be at least 2'),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, length: int, line: str) -> None:
    with pytest.raises(UserError, match=line):
        repeated_copying(language_model(name), length)
