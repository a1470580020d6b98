import itertools
from collections import Counter

import numpy as np
import pytest

from lm.data.packing import PackedRows
from lm.data.store import Store
from lm.errors import UserError
from lm.vocabulary import Vocabulary

BOS, EOS, PAD = 1, 2, 0
VOCABULARY = Vocabulary(10_000, PAD, BOS, EOS, 3, 4, (5,), (6,))
RECORD = 16
CORPORA = {
    'several': [5, 0, 1, 40, 3, 3, 100, 2, 17],
    'one': [333],
    'tiny': [3],
    'one token': [1],
    'exactly a row': [13],
    'many small': [2] * 50,
    'long and short': [700, 1],
}


def store_of(lengths: list[int]) -> Store:
    """Every token of the store is another id, from 10 on."""
    records, number = [], 10
    for length in lengths:
        tokens = np.arange(number, number + length)
        number += length
        records += [{'tokens': tokens[s : s + RECORD]} for s in range(0, max(length, 1), RECORD)]
    return Store(records, np.asarray(lengths), 0, RECORD)


def packed(
    lengths: list[int], overlap: int, shuffle: bool = True, row_len: int = 16, seed: int = 7
):
    return PackedRows(store_of(lengths), VOCABULARY, row_len, overlap, seed, shuffle)


def documents_of(lengths: list[int]) -> list[list[int]]:
    starts = np.concatenate([[0], np.cumsum(lengths)]) + 10
    return [
        [BOS, *range(start, start + length), EOS]
        for start, length in zip(starts, lengths, strict=False)
        if length
    ]


every_corpus = pytest.mark.parametrize('lengths', CORPORA.values(), ids=CORPORA.keys())
every_order = pytest.mark.parametrize('shuffle', [True, False], ids=['shuffled', 'in order'])


@every_corpus
@every_order
@pytest.mark.parametrize('epoch', [0, 1, 5])
def test_every_token_is_a_target_once_an_epoch(lengths, shuffle: bool, epoch: int):
    """With overlap 1: of the token before it in the same document, and nothing else is."""
    rows = packed(lengths, overlap=1, shuffle=shuffle)
    targets: Counter[tuple[int, int, int]] = Counter()
    for i in range(epoch * rows.rows_per_epoch, (epoch + 1) * rows.rows_per_epoch):
        row = rows.row(i)
        for t in range(rows.row_len - 1):
            if row.segment_ids[t] and row.segment_ids[t] == row.segment_ids[t + 1]:
                targets[row.documents[t], row.tokens[t], row.tokens[t + 1]] += 1
    filled = [d for d, length in enumerate(lengths) if length]
    expected = Counter(
        (document, a, b)
        for document, ids in zip(filled, documents_of(lengths), strict=True)
        for a, b in itertools.pairwise(ids)
    )
    assert targets == expected


@every_corpus
@every_order
@pytest.mark.parametrize('epoch', [0, 3])
def test_every_token_is_in_one_row_an_epoch(lengths, shuffle: bool, epoch: int):
    rows = packed(lengths, overlap=0, shuffle=shuffle)
    seen: Counter[int] = Counter()
    for i in range(epoch * rows.rows_per_epoch, (epoch + 1) * rows.rows_per_epoch):
        seen.update(rows.row(i).tokens.tolist())
    del seen[PAD]
    assert seen == Counter(token for ids in documents_of(lengths) for token in ids)


@every_corpus
@pytest.mark.parametrize('overlap', [0, 1])
def test_segments_are_stretches_of_one_document(lengths, overlap: int):
    rows = packed(lengths, overlap)
    whole = dict(zip(np.flatnonzero(lengths), documents_of(lengths), strict=True))
    for i in range(2 * rows.rows_per_epoch):
        row = rows.row(i)
        used = [s for s in dict.fromkeys(row.segment_ids.tolist()) if s]
        assert used == list(range(1, len(used) + 1))
        for segment in used:
            here = row.segment_ids == segment
            (document,) = set(row.documents[here].tolist())
            tokens = row.tokens[here].tolist()
            begin = whole[document].index(tokens[0])
            assert whole[document][begin : begin + len(tokens)] == tokens
            np.testing.assert_array_equal(row.positions[here], np.arange(len(tokens)))
        padding = row.segment_ids == 0
        assert set(row.tokens[padding].tolist()) <= {PAD}
        assert set(row.documents[padding].tolist()) <= {-1}
        assert not padding[: int((~padding).sum())].any(), 'padding comes last'


@every_corpus
def test_rows_are_pure_functions(lengths):
    rows, again = packed(lengths, 1), packed(lengths, 1)
    numbers = list(range(6 * rows.rows_per_epoch))
    forwards = {i: rows.row(i) for i in numbers}
    for i in np.random.default_rng(0).permutation(numbers):
        for a, b in zip(forwards[i], again.row(int(i)), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.int32


def test_epochs_and_seeds_differ_even_for_one_document():
    rows, other = packed([333], 1), packed([333], 1, seed=8)
    starts = [rows.row(e * rows.rows_per_epoch).tokens[0] for e in range(4)]
    assert len(set(starts)) > 1
    boundaries = [
        {int(rows.row(e * rows.rows_per_epoch + r).tokens[0]) for r in range(rows.rows_per_epoch)}
        for e in range(2)
    ]
    assert boundaries[0] != boundaries[1]
    assert any((rows.row(i).tokens != other.row(i).tokens).any() for i in range(5))


def test_in_order_rows_follow_the_text():
    rows = packed([5, 0, 20], overlap=0, shuffle=False)
    text = np.concatenate([rows.row(i).tokens for i in range(rows.rows_per_epoch)])
    whole = [token for ids in documents_of([5, 0, 20]) for token in ids]
    assert text[: len(whole)].tolist() == whole


@every_corpus
@every_order
@pytest.mark.parametrize('overlap', [0, 1])
def test_accounting_counts_what_rows_hold(lengths, shuffle: bool, overlap: int):
    rows = packed(lengths, overlap, shuffle=shuffle)
    circle = sum(map(len, documents_of(lengths)))
    per_epoch = rows.rows_per_epoch
    for start, stop in [
        (0, per_epoch),
        (0, per_epoch // 2),
        (1, 3 * per_epoch + 2),
        (0, 2 * per_epoch),
    ]:
        counted = rows.accounting(start, stop)
        held = [rows.row(i) for i in range(start, stop)]
        assert counted['padded'] == sum(int((row.segment_ids == 0).sum()) for row in held)
        touched = {int(d) for row in held for d in row.documents} - {-1}
        assert counted['documents'] == len(touched)
        assert counted['empty_documents'] == lengths.count(0)
        assert counted['truncated'] == counted['dropped'] == 0
    assert rows.accounting(0, per_epoch)['tokens'] == circle
    assert rows.accounting(0, per_epoch)['repeated'] == 0
    twice = rows.accounting(0, 2 * per_epoch)
    assert (twice['tokens'], twice['repeated']) == (2 * circle, circle)
    assert rows.accounting(0, 0)['tokens'] == 0


def test_split_documents_are_counted():
    assert packed([10, 10], 0, shuffle=False).accounting(0, 2)['split_documents'] == 1
    assert packed([14, 14], 0, shuffle=False).accounting(0, 2)['split_documents'] == 0
    assert packed([333], 0, shuffle=False).accounting(0, 21)['split_documents'] == 20


def test_no_tokens_is_one_line():
    with pytest.raises(UserError, match=r'data.source: one side of it has no tokens'):
        packed([0, 0], 1)


def test_a_million_documents_are_packed_from_their_lengths_alone():
    class Records:
        def __getitem__(self, number: int) -> dict[str, np.ndarray]:
            return {'tokens': np.full(3, 10 + number % 100)}

    store = Store(Records(), np.full(1_000_000, 3), 0, RECORD)
    rows = PackedRows(store, VOCABULARY, 128, 1, 0, True)
    assert rows.rows_per_epoch == -(-5_000_000 // 127)
    row = rows.row(rows.rows_per_epoch // 2)
    assert 25 <= row.segment_ids.max() <= 27
    for document in set(row.documents.tolist()):
        here = row.documents == document
        assert set(row.tokens[here].tolist()) <= {BOS, EOS, 10 + document % 100}


@every_corpus
@every_order
@pytest.mark.parametrize('start, stop', [(0, 1), (0, 9), (3, 40), (57, 58)])
def test_the_most_segments_of_any_row(lengths, shuffle: bool, start: int, stop: int):
    rows = packed(lengths, overlap=1, shuffle=shuffle)
    most = max(int(rows.row(i).segment_ids.max()) for i in range(start, stop))
    assert rows.most_segments(start, stop) == most
