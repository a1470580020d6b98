"""Examples as rows: a field a segment, each example once an epoch, what does not fit refused."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from lm import UserError
from lm.data.example_rows import ExampleRows
from lm.data.store import Store

FIELDS = np.array([[3, 0, 1], [2, 2, 1], [4, 1, 2]])


def store() -> Store:
    lengths = FIELDS.sum(1)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    records = [
        {'name': f'example {i}'.encode(), 'tokens': ids[starts[i] : starts[i + 1]]}
        for i in range(len(lengths))
    ]
    return Store(
        records,
        lengths,
        text_bytes=99,
        record_tokens=64,
        fields=FIELDS,
        record_of=np.array([0, 1, 1]),
    )


@dataclass
class Fits:
    room: int = 99
    truncates: bool = False
    FITTING_OPTION = 'truncate=True'

    def places(self, lengths_NF: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
        return [('train.seq_len', lengths_NF[:, :2].sum(1) + 2, self.room)]


def rows(room: int = 99, *, truncates: bool = False, shuffle: bool = True) -> ExampleRows:
    return ExampleRows(store(), Fits(room, truncates), row_len=16, seed=3, shuffle=shuffle)


def test_a_row_is_an_example_with_a_segment_a_field() -> None:
    row = rows(shuffle=False).row(1)
    assert row.tokens.tolist() == [4, 5, 6, 7, 8]
    assert row.segment_ids.tolist() == [1, 1, 2, 2, 3]
    assert row.positions.tolist() == [0, 1, 0, 1, 0]
    assert row.documents.tolist() == [1] * 5
    # A field may be empty.
    assert rows(shuffle=False).row(0).segment_ids.tolist() == [1, 1, 1, 3]


def test_an_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    shuffled = rows()
    orders = [[shuffled.example_of(3 * e + i) for i in range(3)] for e in range(12)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(Counter(map(tuple, orders))) > 2
    assert [rows().example_of(i) for i in range(36)] == [i for order in orders for i in order]


def test_accounting_counts_what_was_read_again_and_cut() -> None:
    counted = rows(room=6, truncates=True, shuffle=False).accounting(1, 5)
    # Examples 1, 2, then 0, 1 of the second epoch: 6, 7, 5, 6 places.
    assert counted['rows'] == 4
    assert counted['documents'] == 2  # of which one is two examples
    assert counted['tokens'] == 6 + 7 + 5 + 6
    assert counted['repeated'] == 5 + 6
    assert counted['truncated'] == 1


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(
        UserError,
        match=r'train\.seq_len=6: the example example 2 takes 7 places, and 1 of 3 do not fit; '
        r'raise it to 7, or set objective\.options\.truncate=True',
    ):
        rows(room=6)
