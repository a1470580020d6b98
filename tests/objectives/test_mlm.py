"""Masked language modelling: which tokens are chosen, and what stands in their place."""

from dataclasses import replace

import numpy as np
import pytest

from lm.batch import Row
from lm.errors import UserError
from lm.objectives import mlm
from tests.objectives.rows import TEXT, VOCABULARY, packed, text_row

LENGTH = 100
OBJECTIVE = mlm.build(mlm.Options(), VOCABULARY, LENGTH)


@pytest.mark.parametrize(
    ('lengths', 'chosen'), [([100], 15), ([40, 60], 14), ([30], 4), ([3], 1), ([2], 0)]
)
def test_the_rate_is_exact(lengths: list[int], chosen: int) -> None:
    """0.15 of the tokens that are no bos or eos, at least one where there is one."""
    for seed in range(5):
        row = text_row(lengths, LENGTH, boundaries=True, seed=seed)
        batch = OBJECTIVE.example(row, np.random.default_rng(seed))
        assert batch.loss_weights.sum() == chosen
        assert np.isin(row.tokens[batch.loss_weights > 0], TEXT).all()


def test_what_stands_in_a_chosen_tokens_place() -> None:
    rows, mask_id = 1000, VOCABULARY.mask_id
    row = text_row([LENGTH], LENGTH, boundaries=True)
    masked = kept = total = 0
    swapped_to: list[int] = []
    for i in range(rows):
        batch = OBJECTIVE.example(row, np.random.default_rng(i))
        chosen = batch.loss_weights > 0
        np.testing.assert_array_equal(batch.targets, row.tokens)
        np.testing.assert_array_equal(batch.tokens[~chosen], row.tokens[~chosen])
        seen, true = batch.tokens[chosen], row.tokens[chosen]
        masked += np.sum(seen == mask_id)
        kept += np.sum(seen == true)
        swapped_to += seen[(seen != mask_id) & (seen != true)].tolist()
        total += len(seen)
    ordinary = {*TEXT.tolist(), VOCABULARY.unk_id}
    assert set(swapped_to) == ordinary
    counts = np.bincount(swapped_to)[sorted(ordinary)]
    assert counts.max() < 2.5 * counts.mean()
    # A random token is the true one once in a while.
    own = 0.1 / len(ordinary)
    for count, share in ((masked, 0.8), (kept, 0.1 + own), (len(swapped_to), 0.1 - own)):
        assert abs(count - share * total) < 4 * np.sqrt(share * (1 - share) * total)


def test_every_visit_is_masked_anew() -> None:
    row = text_row([LENGTH], LENGTH, boundaries=True)
    visits = [OBJECTIVE.example(row, np.random.default_rng([0, i])) for i in range(200)]
    chosen = np.mean([visit.loss_weights for visit in visits], axis=0)
    assert (chosen[1:-1] > 0).all()
    assert chosen.max() < 0.35


def test_a_masked_tokens_true_id_changes_nothing_the_model_reads() -> None:
    hidden = mlm.build(mlm.Options(mask_share=1.0, random_share=0.0), VOCABULARY, LENGTH)
    row = text_row([LENGTH], LENGTH, boundaries=True)
    batch = hidden.example(row, np.random.default_rng(0))
    chosen = batch.loss_weights > 0
    other = row.tokens.copy()
    other[chosen] = TEXT[(np.searchsorted(TEXT, other[chosen]) + 1) % len(TEXT)]
    changed = hidden.example(row._replace(tokens=other), np.random.default_rng(0))
    for field in ('tokens', 'segment_ids', 'positions', 'loss_weights'):
        np.testing.assert_array_equal(getattr(batch, field), getattr(changed, field))
    assert (batch.targets != changed.targets).sum() == chosen.sum()


def test_a_row_of_specials_has_no_target() -> None:
    row = packed([[VOCABULARY.bos_id, VOCABULARY.eos_id]], LENGTH)
    assert OBJECTIVE.example(row, np.random.default_rng(0)).loss_weights.sum() == 0


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'mask_rate': 0.0}, 'mask_rate=0.0: must be in (0, 1)'),
        ({'mask_rate': 1.5}, 'mask_rate=1.5'),
        ({'mask_share': 0.95}, 'mask_share=0.95, random_share=0.1'),
        ({'random_share': -0.1}, 'random_share=-0.1'),
    ],
)
def test_bad_options(options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        mlm.Options(**options)
    assert words in str(error.value)


def test_shares_may_add_up_to_all() -> None:
    assert mlm.Options(mask_share=0.7, random_share=0.3).random_share == 0.3


def test_a_vocabulary_without_mask_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match='^objective.name=mlm: the tokenizer has no mask id'):
        mlm.build(mlm.Options(), replace(VOCABULARY, mask_id=None), LENGTH)


def test_thirty_percent_is_an_option() -> None:
    objective = mlm.build(mlm.Options(mask_rate=0.3), VOCABULARY, LENGTH)
    row = text_row([LENGTH], LENGTH, boundaries=True)
    assert objective.example(row, np.random.default_rng(0)).loss_weights.sum() == 29


def words_of(row: Row) -> list[list[int]]:
    """Places of the tokens of each word, found one by one."""
    words: list[list[int]] = []
    inside = False
    for place, token in enumerate(row.tokens.tolist()):
        ordinary = token not in VOCABULARY.special_ids and row.segment_ids[place] > 0
        starts = token % 3 == 0 or row.positions[place] == 0 or not inside
        if ordinary and starts:
            words.append([])
        if ordinary:
            words[-1].append(place)
        inside = ordinary
    return words


@pytest.mark.parametrize('lengths', [[100], [40, 60], [30, 7, 3]])
@pytest.mark.parametrize('boundaries', [True, False])
def test_whole_words_are_chosen_or_none_of_them(lengths: list[int], boundaries: bool) -> None:
    objective = mlm.build(mlm.Options(mask_rate=0.3, whole_words=True), VOCABULARY, LENGTH)
    parts = total = 0
    for seed in range(50):
        row = text_row(lengths, LENGTH, boundaries, seed=seed)
        words = words_of(row)
        chosen = objective.example(row, np.random.default_rng(seed)).loss_weights > 0
        assert all(len(set(chosen[word])) == 1 for word in words)
        assert max(map(len, words)) > 2
        due = round(0.3 * sum(map(len, words)))
        assert 0 < chosen.sum() <= due
        total += chosen.sum()
        parts += due
    assert total > 0.98 * parts


def test_every_word_is_as_likely_as_every_other() -> None:
    """Words of one token, of which 30 are drawn: chi-square with 99 degrees of freedom."""
    objective = mlm.build(mlm.Options(mask_rate=0.3, whole_words=True), VOCABULARY, LENGTH)
    row = packed([[39, 42, 45, 48] * 25], LENGTH)
    counts = sum(objective.example(row, np.random.default_rng(i)).loss_weights for i in range(1000))
    assert counts.sum() == 30 * 1000
    # Drawn without replacement: of each count the variance is 1000 x 0.3 x 0.7.
    assert ((counts - 300) ** 2 / 210).sum() * 99 / 100 < 148.2  # p = 0.001


def test_a_word_longer_than_the_count_is_chosen_whole() -> None:
    objective = mlm.build(mlm.Options(whole_words=True), VOCABULARY, LENGTH)
    row = packed([[38, 40, 41, 43, 44]], LENGTH)
    assert not objective.example(packed([], LENGTH), np.random.default_rng(0)).loss_weights.any()
    assert objective.example(row, np.random.default_rng(0)).loss_weights[:5].tolist() == [1] * 5


@pytest.mark.parametrize('segments', [[[39, 40], [41, 43]], [[39, 40, VOCABULARY.eos_id, 41, 43]]])
def test_a_word_ends_with_its_segment_and_at_a_special_token(segments: list[list[int]]) -> None:
    objective = mlm.build(mlm.Options(mask_rate=0.5, whole_words=True), VOCABULARY, LENGTH)
    row = packed(segments, LENGTH)
    found = {
        tuple(row.tokens[objective.example(row, np.random.default_rng(i)).loss_weights > 0])
        for i in range(20)
    }
    assert found == {(39, 40), (41, 43)}
