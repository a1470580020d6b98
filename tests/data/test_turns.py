"""Whose turn a row is: shares, purity, and a count by brute force."""

import random
from fractions import Fraction

import numpy as np
import pytest

from lm.data.turns import EXACT_ROWS, Turns, fair_schedule

EXACT = [(1,), (1, 1), (7, 3), (90, 2, 2, 2, 2, 2), (0.5, 0.25, 0.2499, 0.0001), (5, 3, 2, 1, 1)]
ROUNDED = [(0.33333333, 0.6, 0.2), (3.14159265, 2.71828182, 1.41421356, 1.7320508), (12345678, 987)]


def turns(weights: tuple[float, ...], seed: int = 0) -> Turns:
    return Turns([Fraction(str(weight)) for weight in weights], seed)


def drawn(weights: tuple[float, ...], rows: int, seed: int = 0) -> np.ndarray:
    return turns(weights, seed).sources(np.arange(rows))


def furthest(weights: tuple[float, ...], rows: np.ndarray) -> np.ndarray:
    """How far the largest source is off its share, in rows, after each row."""
    shares = np.asarray([float(share) for share in turns(weights).shares])
    counts = np.cumsum(rows[:, None] == np.arange(len(weights)), axis=0)
    return np.abs(counts - np.arange(1, len(rows) + 1)[:, None] * shares).max(axis=1)


@pytest.mark.parametrize('weights', EXACT, ids=str)
def test_at_any_row_every_source_has_its_share_to_within_a_row(weights: tuple[float, ...]) -> None:
    assert furthest(weights, drawn(weights, 25_000)).max() < 1


@pytest.mark.parametrize('weights', ROUNDED, ids=str)
def test_weights_without_a_small_denominator_are_rounded_at_blocks(
    weights: tuple[float, ...],
) -> None:
    off = furthest(weights, drawn(weights, 50_000))
    rows = turns(weights)._rows
    assert off.max() < 2
    assert off[rows - 1 :: rows].max() < 1


def test_no_weights_break_the_schedule() -> None:
    draw = random.Random(0)
    for _ in range(150):
        weights = tuple(draw.randint(1, 60) for _ in range(draw.randint(2, 9)))
        assert furthest(weights, drawn(weights, 1500)).max() < 1, weights


@pytest.mark.parametrize('weights', [*EXACT, *ROUNDED], ids=str)
def test_the_rows_of_a_source_come_once_each_and_in_turn(weights: tuple[float, ...]) -> None:
    dealt = turns(weights)
    seen = [0] * len(weights)
    for i in range(12_000):
        if i % 1000 == 0:
            assert dealt.before(i) == tuple(seen)
        source, row = dealt.turn(i)
        assert row == seen[source]
        seen[source] += 1


def test_a_row_is_the_same_from_any_start() -> None:
    weights, rows = (0.7, 0.2, 0.1), [0, 1, 999, 1000, 12_345, 10**9]
    straight = turns(weights)
    for i in rows:
        assert turns(weights).turn(i) == straight.turn(i)
    np.testing.assert_array_equal(
        straight.sources(np.asarray(rows)), [straight.turn(i).source for i in rows]
    )
    assert sum(straight.before(10**9)) == 10**9


def test_weights_of_any_sum_are_the_same_shares() -> None:
    np.testing.assert_array_equal(drawn((0.7, 0.3), 5000), drawn((7, 3), 5000))
    np.testing.assert_array_equal(drawn((0.1, 0.2), 5000), drawn((1, 2), 5000))


def test_the_seed_decides_the_order_alone() -> None:
    one, other = drawn((1, 1, 1), 1023), drawn((1, 1, 1), 1023, seed=1)
    assert (one != other).any()
    np.testing.assert_array_equal(np.bincount(one), np.bincount(other))
    # Nor does a block repeat the one before.
    later = drawn((1, 1, 1), 2 * turns((1, 1, 1))._rows)
    assert (later[: len(later) // 2] != later[len(later) // 2 :]).any()


def test_a_schedule_holds_every_turn() -> None:
    counts = [5, 0, 17, 1]
    order = fair_schedule(counts, np.arange(23, dtype=np.uint64))
    assert np.bincount(order).tolist() == counts


def test_the_longest_exact_block_is_quick() -> None:
    dealt = turns((EXACT_ROWS - 1, 1))
    assert dealt.before(EXACT_ROWS) == (EXACT_ROWS - 1, 1)
