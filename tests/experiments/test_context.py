"""The parts of experiments.context: what is left of a batch where its context is destroyed."""

import numpy as np

from experiments.context import SEEN, cut, pairs_of, shuffled, swapped
from lm.batch import Batch, stack
from lm.evaluation.heldout import build_scorer
from lm.objectives import clm, mlm, span_corruption
from lm.objectives._objective import Objective
from tests.models.tiny import perturbed, tiny
from tests.objectives.rows import SIZE, VOCABULARY, text_row

SEQ_LEN = 48


def batch_of(objective: Objective, *lengths: list[int]) -> Batch:
    rows = [
        text_row(row, objective.row_len, objective.boundaries, seed)
        for seed, row in enumerate(lengths)
    ]
    return stack([objective.example(row, np.random.default_rng(i)) for i, row in enumerate(rows)])


def test_cut_context_is_the_last_tokens_alone() -> None:
    objective = clm.build(clm.Options(), VOCABULARY, SEQ_LEN)
    batch = batch_of(objective, [20, 29], [15])
    functional = tiny('gpt2', vocab_size=SIZE, max_positions=SEQ_LEN, num_layers=1)
    params, scorer = perturbed(functional), build_scorer(functional, objective)
    parts = list(cut(batch))
    sums = [scorer(params, part) for part in parts]
    assert sum(s.weight for s in sums) == batch.loss_weights.sum()
    # One target by hand: 30 tokens into the row, 10 into its segment.
    alone = Batch(*(x[:1, 30 - SEEN + 1 : 31] for x in batch if x is not None))
    alone = Batch(
        alone.tokens, alone.segment_ids, np.arange(SEEN, dtype=np.int32)[None],
        targets=batch.targets[:1, 30 - SEEN + 1 : 31],
        loss_weights=(np.arange(SEEN) == SEEN - 1).astype(np.float32)[None],
    )  # fmt: skip
    part, row = parts[30 % SEEN], 30 // SEEN
    found = Batch(*(None if x is None else x[row : row + 1] for x in part))
    np.testing.assert_allclose(scorer(params, found).loss, scorer(params, alone).loss, rtol=1e-6)


def test_shuffling_keeps_what_is_hidden_and_what_there_is() -> None:
    batch = batch_of(mlm.build(mlm.Options(), VOCABULARY, SEQ_LEN), [20, 28], [30])
    other = shuffled(batch, np.random.default_rng(0))
    hidden = batch.loss_weights > 0
    np.testing.assert_array_equal(other.tokens[hidden], batch.tokens[hidden])
    assert (other.tokens != batch.tokens).mean() > 0.5
    for row in range(2):
        for segment in (0, 1, 2):
            here = batch.segment_ids[row] == segment
            assert sorted(other.tokens[row, here]) == sorted(batch.tokens[row, here])


def test_swapping_reads_the_row_before_where_it_has_the_segment() -> None:
    objective = span_corruption.build(span_corruption.Options(), VOCABULARY, SEQ_LEN)
    half = objective.row_len // 2
    batch = batch_of(objective, [objective.row_len], [half, half])
    whole, broken = swapped(batch)
    np.testing.assert_array_equal(broken.tokens, batch.tokens[::-1])
    np.testing.assert_array_equal(broken.targets, batch.targets)
    counts = whole.loss_weights > 0
    np.testing.assert_array_equal(broken.loss_weights, whole.loss_weights)
    np.testing.assert_array_equal(counts, batch.decoder_segment_ids == 1)


def test_pairs_are_targets_after_their_left_neighbours() -> None:
    bos = VOCABULARY.bos_id
    batch = batch_of(clm.build(clm.Options(), VOCABULARY, SEQ_LEN), [20, 29])
    pairs = pairs_of(batch, 'decoder', bos)
    assert len(pairs.target) == 47
    assert (pairs.before[0], pairs.target[0]) == (bos, batch.tokens[0, 1])
    masked = batch_of(mlm.build(mlm.Options(), VOCABULARY, SEQ_LEN), [20, 28])
    raw = text_row([20, 28], SEQ_LEN, boundaries=True).tokens
    pairs, places = pairs_of(masked, 'encoder', bos), np.flatnonzero(masked.loss_weights)
    assert pairs.target.tolist() == raw[places].tolist()
    assert pairs.before.tolist() == raw[places - 1].tolist()
    assert len(pairs_of(masked, 'encoder', bos, all_text=True).target) == 46
