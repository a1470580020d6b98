"""The bigram model: a distribution, with weights that fit what was not counted."""

import numpy as np
import pytest

from lm.evaluation.bigram import Pairs, counted, joined

SIZE = 7


def chain(length: int, seed: int) -> Pairs:
    """A text in which a token's successor is mostly the next id, and 5 and 6 never come."""
    rng = np.random.default_rng(seed)
    text = [0]
    for _ in range(length):
        text.append((text[-1] + 1) % 5 if rng.random() < 0.8 else int(rng.integers(5)))
    ids = np.array(text)
    return Pairs(ids[:-1], ids[1:])


def entropy() -> float:
    p = np.array([0.84, 0.04, 0.04, 0.04, 0.04])
    return float(-(p * np.log(p)).sum())


def test_probabilities_add_up_to_one() -> None:
    bigram = counted(chain(200, 0), SIZE).tuned(chain(100, 1))
    for before in range(SIZE):
        every = [Pairs(np.array([before]), np.array([target])) for target in range(SIZE)]
        assert sum(np.exp(-bigram.nats(pair)) for pair in every) == pytest.approx(1)


def test_much_text_comes_close_to_the_true_entropy() -> None:
    test = chain(50_000, 2)
    tuned = counted(chain(20_000, 0), SIZE).tuned(chain(2000, 1))
    assert tuned.nats(test) / 50_000 == pytest.approx(entropy(), rel=0.02)
    assert tuned.weights[-1, 0] > 0.95


def test_tuning_helps_where_little_was_counted() -> None:
    few, more, test = chain(30, 0), chain(500, 1), chain(2000, 2)
    assert counted(few, SIZE).tuned(more).nats(test) < counted(few, SIZE).nats(test)


def test_a_pair_is_counted_by_hand() -> None:
    bigram = counted(joined([Pairs(np.array([1, 1]), np.array([2, 3]))] * 2), SIZE)
    # Bigram 1/2, unigram 1/2, uniform 1/7, a third each; of an unseen context the unigram instead.
    for before, target, p in (
        (1, 2, 1 / 2 + 1 / 2 + 1 / 7),
        (4, 3, 1 / 2 + 1 / 2 + 1 / 7),
        (1, 6, 1 / 7),
    ):
        nats = bigram.nats(Pairs(np.array([before]), np.array([target])))
        assert np.exp(-nats) == pytest.approx(p / 3)
