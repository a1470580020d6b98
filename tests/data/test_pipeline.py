import threading
import time

import numpy as np
import pytest

from lm.batch import Batch, Row
from lm.data.pipeline import batches
from tests.data.test_packing import packed

LENGTHS = [50, 3, 200, 1, 17]


def example(row: Row, rng: np.random.Generator) -> Batch:
    weights = (row.segment_ids[1:] > 0).astype(np.float32)
    noise = rng.integers(0, 1000, len(row.tokens) - 1).astype(np.int32)
    return Batch(
        row.tokens[:-1],
        row.segment_ids[:-1],
        row.positions[:-1],
        targets=noise,
        loss_weights=weights,
    )


def run(count: int | None = None, **changes) -> list[Batch]:
    arguments = {'batch_size': 4, 'start_row': 0, 'seed': 3, 'threads': 2} | changes
    iterator = batches(packed(LENGTHS, 1), example, **arguments)
    made = list(iterator) if count is None else [next(iterator) for _ in range(count)]
    iterator.close()
    return made


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    for x, y in zip(a, b, strict=True):
        for field_x, field_y in zip(x, y, strict=True):
            np.testing.assert_array_equal(field_x, field_y)


@pytest.mark.parametrize('threads', [0, 1, 4])
def test_resuming_gives_the_tail_whatever_the_threads(threads: int):
    straight = run(20)
    assert_same(straight[7:], run(13, start_row=28, threads=threads))
    assert straight[0].tokens.shape == (4, 15)


def test_other_seeds_corrupt_otherwise():
    assert (run(1)[0].targets != run(1, seed=4)[0].targets).any()


def test_overfitting_repeats_the_first_batches_to_the_bit():
    straight, repeated = run(2), run(6, overfit_batches=2)
    assert_same(repeated, straight * 3)
    assert_same(run(3, overfit_batches=2, start_row=12), [straight[1], straight[0], straight[1]])


def test_the_last_batch_of_an_evaluation_is_filled_without_weight():
    made = run(stop_row=10)
    assert len(made) == 3
    assert_same(made[:2], run(2))
    last = made[-1]
    assert last.tokens.shape == (4, 15)
    assert (last.segment_ids[2:] == 0).all()
    assert (last.loss_weights[2:] == 0).all()
    assert last.loss_weights[:2].sum() > 0
    assert run(stop_row=0) == []


def grain_threads() -> int:
    return sum(thread.name.startswith('grain') for thread in threading.enumerate())


def wait_for_no_threads() -> None:
    until = time.monotonic() + 10
    while grain_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert grain_threads() == 0


def test_threads_end_with_the_iterator():
    wait_for_no_threads()
    iterator = batches(packed(LENGTHS, 1), example, batch_size=4, start_row=0, seed=0, threads=4)
    next(iterator)
    assert grain_threads() > 0
    del iterator
    wait_for_no_threads()
