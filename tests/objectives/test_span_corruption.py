"""Span corruption: T5's published lengths and distribution, and nothing lost."""

from collections import Counter

import numpy as np
import pytest

from lm.batch import Batch, stack
from lm.errors import UserError
from lm.objectives import span_corruption
from lm.objectives._spans import apportion, noise_spans
from lm.objectives.span_corruption import Options, SpanCorruption
from tests.objectives.rows import TEXT, VOCABULARY, text_row, vocabulary

EOS, PAD = VOCABULARY.eos_id, VOCABULARY.pad_id


def built(seq_len: int, **options: float) -> SpanCorruption:
    return span_corruption.build(Options(**options), VOCABULARY, seq_len)


def example(objective: SpanCorruption, lengths: list[int], seed: int = 0) -> Batch:
    row = text_row(lengths, objective.row_len, boundaries=False, seed=seed)
    return objective.example(row, np.random.default_rng(seed))


# 568 and 114 are published; the others are worked out by the same rule.
@pytest.mark.parametrize(
    ('seq_len', 'noise_rate', 'mean', 'raw', 'targets'),
    [
        (512, 0.15, 3.0, 568, 114),
        (128, 0.15, 3.0, 141, 29),
        (64, 0.5, 3.0, 95, 65),
        (64, 0.5, 32.0, 123, 65),
    ],
)
def test_lengths_are_t5s(
    seq_len: int, noise_rate: float, mean: float, raw: int, targets: int
) -> None:
    objective = built(seq_len, noise_rate=noise_rate, mean_span_length=mean)
    noise = round(raw * noise_rate)
    spans = max(round(noise / mean), 1)
    assert (raw - noise + spans + 1, noise + spans + 1) == (seq_len, targets)
    assert (objective.row_len, objective.target_len) == (raw, targets)


@pytest.mark.parametrize('lengths', [[568], [300, 268], [2, 566], [100, 400, 68], [41] * 13 + [35]])
def test_full_rows_fill_both_sides(lengths: list[int]) -> None:
    objective = built(512)
    batch = example(objective, lengths)
    assert (batch.segment_ids > 0).all()
    assert (batch.decoder_segment_ids > 0).all()
    assert (batch.loss_weights == 1).all()
    assert objective.tokens_used(stack([batch])) == 568
    assert np.isin(batch.targets, TEXT).sum() == round(0.15 * 568)


@pytest.mark.parametrize('seq_len', [3, 4, 8, 9, 16, 61])
@pytest.mark.parametrize('noise_rate', [0.01, 0.15, 0.5])
@pytest.mark.parametrize('mean', [1.0, 3.0, 40.0])
def test_any_row_fits_and_inverts(seq_len: int, noise_rate: float, mean: float) -> None:
    objective = built(seq_len, noise_rate=noise_rate, mean_span_length=mean)
    rng = np.random.default_rng(seq_len)
    for trial in range(12):
        parts = rng.integers(1, max(2, objective.slots // 2 + 1))
        cuts = rng.choice(objective.row_len - 1, min(parts, objective.row_len - 1) - 1, False)
        edges = np.sort(np.concatenate([[0], cuts + 1, [objective.row_len]]))
        lengths = [int(n) for n in np.diff(edges)]
        row = text_row(lengths, objective.row_len, boundaries=False, seed=trial)
        batch = objective.example(row, np.random.default_rng(trial))
        texts = np.split(row.tokens, edges[1:-1])
        long_enough = [text.tolist() for text in texts if len(text) > 1]
        assert [text.tolist() for text in objective.restore(batch)] == long_enough
        assert objective.tokens_used(stack([batch])) == sum(map(len, long_enough))
        if len(long_enough) == len(lengths):
            assert (batch.decoder_segment_ids > 0).all()
            # Every other token noise, each a span: an odd row has one more than can be told apart.
            spare = 1 if (noise_rate, mean) == (0.5, 1.0) else 0
            assert np.sum(batch.segment_ids == 0) <= spare


def test_more_segments_than_fit_are_drawn_and_the_rest_counted() -> None:
    objective = built(64)
    most = objective.slots // 2
    lengths = [10, 20, 6, 14, 8, 1, 3]
    assert most < len(lengths)
    row = text_row(lengths, objective.row_len, boundaries=False)
    texts = [text.tolist() for text in np.split(row.tokens[: sum(lengths)], np.cumsum(lengths))]
    drawn: Counter[int] = Counter()
    for seed in range(300):
        batch = objective.example(row, np.random.default_rng(seed))
        restored = [text.tolist() for text in objective.restore(batch)]
        assert len(restored) == most
        assert objective.tokens_used(stack([batch])) == sum(map(len, restored))
        places = [texts.index(text) for text in restored]
        assert places == sorted(places)
        drawn.update(len(text) for text in restored)
    # Each is there at times, the longer the more often; what cannot hold a span never.
    assert set(drawn) == {20, 14, 10, 8, 6, 3}
    assert drawn[20] > drawn[10] > drawn[3]


def test_sentinels_come_in_order_and_the_decoder_reads_the_targets_shifted() -> None:
    objective = built(128)
    batch = example(objective, [60, 81])
    for segment in (1, 2):
        inputs = batch.tokens[batch.segment_ids == segment]
        here = batch.decoder_segment_ids == segment
        targets = batch.targets[here]
        sentinels = [i for i in targets if i in VOCABULARY.sentinel_ids]
        assert sentinels == list(VOCABULARY.sentinel_ids[: len(sentinels)])
        assert [i for i in inputs if i in VOCABULARY.sentinel_ids] == sentinels
        assert inputs[-1] == targets[-1] == EOS
        assert targets[0] == sentinels[0]
        assert batch.decoder_tokens[here].tolist() == [PAD, *targets[:-1]]
        assert batch.decoder_positions[here].tolist() == list(range(len(targets)))


def test_what_is_hidden_is_not_in_the_encoders_input() -> None:
    large = vocabulary(size=400)
    objective = span_corruption.build(Options(), large, 128)
    ids = np.random.default_rng(0).permutation(np.arange(100, 400))[: objective.row_len]
    row = text_row([60, 81], objective.row_len, boundaries=False)
    batch = objective.example(row._replace(tokens=ids.astype(np.int32)), np.random.default_rng(1))
    hidden = batch.targets[batch.targets >= 100]
    assert len(hidden) == round(0.15 * objective.row_len)
    assert not np.isin(batch.tokens, hidden).any()
    assert set(ids) == set(hidden) | set(batch.tokens[batch.tokens >= 100])


def t5_spans(length: int, noise: int, spans: int, rng: np.random.Generator) -> np.ndarray:
    """T5's `random_spans_noise_mask`, written anew from its description: starts and ends."""

    def composition(total: int) -> np.ndarray:
        marks = np.arange(total - 1) < spans - 1
        rng.shuffle(marks)
        return np.bincount(np.cumsum(np.concatenate([[0], marks])), minlength=spans)

    stretches = np.stack([composition(length - noise), composition(noise)], axis=1).ravel()
    ends = np.cumsum(stretches)
    return np.stack([ends[0::2], ends[1::2]], axis=1)


def test_every_composition_is_equally_likely() -> None:
    """7 tokens, 3 noise, 2 spans: 2 x 3 ways; chi-square with 5 degrees of freedom."""
    trials, ways = 6000, 6
    rng = np.random.default_rng(0)
    counts = Counter(noise_spans(7, 3, 2, rng).tobytes() for _ in range(trials))
    assert len(counts) == ways
    expected = trials / ways
    assert sum((c - expected) ** 2 / expected for c in counts.values()) < 20.5  # p = 0.001


def test_span_lengths_are_those_of_t5() -> None:
    length, noise, spans, trials = 568, 85, 28, 400
    rng = np.random.default_rng(1)

    def lengths(draw: object) -> np.ndarray:
        found = [np.diff(draw(length, noise, spans, rng), axis=1) for _ in range(trials)]
        return np.concatenate(found).ravel()

    ours, theirs = lengths(noise_spans), lengths(t5_spans)
    assert len(ours) == trials * spans
    assert ours.sum() == trials * noise
    assert ours.mean() == pytest.approx(85 / 28)
    # P(first part is n) of a uniform composition is C(noise - n - 1, spans - 2) / C(noise - 1,
    # spans - 1): 0.321, 0.221, 0.151, ... here.
    for n, share in ((1, 27 / 84), (2, 27 / 84 * 57 / 83), (3, 27 / 84 * 57 / 83 * 56 / 82)):
        for drawn in (ours, theirs):
            assert np.mean(drawn == n) == pytest.approx(share, abs=0.015)


def test_apportion() -> None:
    cases = np.random.default_rng(0)
    for _ in range(200):
        sizes = cases.integers(2, 30, cases.integers(1, 6))
        most = sizes - 1
        total = int(cases.integers(len(sizes), most.sum() + 1))
        shares = apportion(total, sizes, most)
        assert shares.sum() == total
        assert ((shares >= 1) & (shares <= most)).all()
        roomy = apportion(total, sizes, sizes * 100)
        due = total * sizes / sizes.sum()
        assert (np.abs(roomy - due) < 1.0 + (roomy == 1) + len(sizes) * (due.min() < 1)).all()
    assert apportion(9, np.array([2, 2]), np.array([1, 1])).tolist() == [1, 1]


@pytest.mark.parametrize(
    ('seq_len', 'options', 'words'),
    [
        (2, {}, 'train.seq_len=2: span corruption needs at least 3'),
        (1024, {}, 'train.seq_len=1024: span corruption needs 57 sentinels of 30'),
        (64, {'noise_rate': 0.9, 'mean_span_length': 2.0}, 'noise_rate=0.9: leaves too few'),
        (64, {'noise_rate': 1.0}, 'noise_rate=1.0: must be in (0, 1)'),
        (64, {'mean_span_length': 0.5}, 'mean_span_length=0.5: must be at least 1'),
    ],
)
def test_refusals_are_one_line(seq_len: int, options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        built(seq_len, **options)
    assert words in str(error.value)
    assert '\n' not in str(error.value)


def test_a_vocabulary_without_sentinels_is_told_in_a_line() -> None:
    bare = vocabulary(sentinels=0)
    with pytest.raises(UserError, match='^objective.name=span_corruption: .* has no sentinels'):
        span_corruption.build(span_corruption.Options(), bare, 64)
