"""Prefix language modelling: where segments are cut, and who sees what."""

from collections import Counter

import numpy as np
import pytest

from lm.batch import stack
from lm.objectives import clm, prefix_lm
from tests.models.tiny import tiny
from tests.objectives.rows import SIZE, VOCABULARY, packed, text_row
from tests.objectives.seen import seen

LENGTH = 24
DECODER = prefix_lm.build(prefix_lm.Options(), VOCABULARY, LENGTH, 'decoder')
TWO_SIDED = prefix_lm.build(prefix_lm.Options(), VOCABULARY, LENGTH, 'encoder_decoder')


@pytest.mark.parametrize('lengths', [[25], [9, 16], [4, 10, 6], [1, 24], [24, 1], [2] * 12])
def test_a_decoders_row_is_that_of_causal_language_modelling(lengths: list[int]) -> None:
    row = text_row(lengths, LENGTH + 1, boundaries=False)
    batch = DECODER.example(row, np.random.default_rng(0))
    causal = clm.build(clm.Options(), VOCABULARY, LENGTH).example(row, np.random.default_rng(0))
    for field in ('tokens', 'segment_ids', 'positions', 'targets'):
        np.testing.assert_array_equal(getattr(batch, field), getattr(causal, field))
    ends = np.cumsum(lengths)
    whole = np.append(batch.prefix, False)
    for start, end in zip(ends - lengths, ends, strict=True):
        # A prefix, then targets up to the segment's end, at least one of each where there can be.
        targets = np.append(False, batch.loss_weights > 0)[start + 1 : end]
        if start == LENGTH:  # a last token that is nobody's target
            continue
        assert whole[start]
        assert (targets == ~whole[start + 1 : end]).all()
        assert (np.diff(targets.astype(int)) >= 0).all()
        assert end - start == 1 or targets[-1]
    assert not batch.loss_weights[causal.loss_weights == 0].any()


def cut_lengths(objective: object, trials: int = 4800) -> Counter[int]:
    """How often the first of two segments, of 9 tokens, has a prefix of each length."""
    row = text_row([9, 16], LENGTH + 1, boundaries=False)
    counts: Counter[int] = Counter()
    for seed in range(trials):
        batch = objective.example(row, np.random.default_rng(seed))  # type: ignore[attr-defined]
        first = batch.segment_ids == 1
        counts[int(np.sum(first if batch.prefix is None else first & batch.prefix))] += 1
    return counts


@pytest.mark.parametrize('objective', [DECODER, TWO_SIDED])
def test_every_cut_is_equally_likely(objective: object) -> None:
    """8 places between 9 tokens; chi-square with 7 degrees of freedom."""
    counts = cut_lengths(objective)
    assert sorted(counts) == list(range(1, 9))
    assert sum((c - 600) ** 2 / 600 for c in counts.values()) < 24.3  # p = 0.001


def test_the_cuts_of_two_segments_are_independent() -> None:
    row = text_row([9, 16], LENGTH + 1, boundaries=False)
    examples = [DECODER.example(row, np.random.default_rng(i)) for i in range(2000)]
    cuts = [[np.sum(b.prefix & (b.segment_ids == s)) for s in (1, 2)] for b in examples]
    assert abs(np.corrcoef(np.transpose(cuts))[0, 1]) < 4 / np.sqrt(len(cuts))


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
@pytest.mark.parametrize('scan', [True, False])
def test_a_decoder_sees_the_prefix_both_ways_and_nothing_else_ahead(name: str, scan: bool) -> None:
    batch = stack([DECODER.example(text_row([9, 12], 25, False), np.random.default_rng(1))])
    model = tiny(name, vocab_size=SIZE, max_positions=LENGTH, num_layers=1, scan_layers=scan)
    place = np.arange(LENGTH)
    segments, prefix = batch.segment_ids[0], batch.prefix[0]
    assert 1 < prefix[:9].sum() < 8 and 1 < prefix[9:21].sum() < 11
    may = (segments[:, None] == segments) & ((place[:, None] >= place) | prefix)
    real = segments > 0
    np.testing.assert_array_equal(seen(model, batch)[real], may[real])
    # And so no loss has a gradient to its own target.
    for t in np.flatnonzero(batch.loss_weights[0]):
        assert t + 1 == LENGTH or not may[t, t + 1]


def test_of_two_sides_the_decoder_sees_its_own_segments_beginning() -> None:
    batch = stack([TWO_SIDED.example(text_row([9, 12], 25, False), np.random.default_rng(1))])
    model = tiny('t5', vocab_size=SIZE, max_positions=LENGTH, num_layers=1)
    own, said = batch.segment_ids[0], batch.decoder_segment_ids[0]
    place = np.arange(LENGTH)
    counts = batch.loss_weights[0] > 0
    read = seen(model, batch)[counts]
    np.testing.assert_array_equal(read, (said[:, None] == own)[counts])
    before = seen(model, batch, 'decoder_tokens')[counts]
    may = (said[:, None] == said) & (place[:, None] >= place)
    np.testing.assert_array_equal(before, may[counts])


@pytest.mark.parametrize('lengths', [[25], [9, 16], [4, 10, 6], [2] * 12])
def test_two_sides_together_are_the_row(lengths: list[int]) -> None:
    row = text_row(lengths, LENGTH + 1, boundaries=True)
    texts = np.split(row.tokens[: sum(lengths)], np.cumsum(lengths)[:-1])
    for seed in range(5):
        batch = TWO_SIDED.example(row, np.random.default_rng(seed))
        restored = [text.tolist() for text in TWO_SIDED.restore(batch)]
        assert restored == [text.tolist() for text in texts]
        assert TWO_SIDED.tokens_used(stack([batch])) == sum(lengths)
        first = batch.decoder_positions == 0
        assert (batch.decoder_tokens[first] == VOCABULARY.pad_id).all()
        shifted = batch.decoder_tokens[1:] == batch.targets[:-1]
        assert shifted[~first[1:]].all()


def test_a_token_by_itself_is_left_out_and_counted() -> None:
    row = packed([[30], [31, 32, 33], [34]], LENGTH + 1)
    batch = TWO_SIDED.example(row, np.random.default_rng(0))
    assert [text.tolist() for text in TWO_SIDED.restore(batch)] == [[31, 32, 33]]
    assert TWO_SIDED.tokens_used(stack([batch])) == 3
    # A decoder reads it, as in causal language modelling.
    assert DECODER.tokens_used(stack([DECODER.example(row, np.random.default_rng(0))])) == 4
