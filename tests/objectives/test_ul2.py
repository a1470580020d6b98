"""UL2: seven denoisers in one shape, what each hides, and that nothing is lost."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lm.batch import Batch, stack
from lm.errors import UserError
from lm.objectives import ul2
from lm.objectives.ul2 import DENOISERS, UL2, Options
from tests.models.tiny import tiny
from tests.objectives.rows import SIZE, VOCABULARY, packed, text_row, vocabulary
from tests.objectives.seen import seen

LARGE = vocabulary(sentinels=100, size=2000)
R, S, X = LARGE.mode_ids
EOS = LARGE.eos_id
both_families = pytest.mark.parametrize('family', ['decoder', 'encoder_decoder'])


def built(seq_len: int, family: str = 'encoder_decoder') -> UL2:
    return ul2.build(Options(), LARGE, seq_len, family)


def example(objective: UL2, lengths: list[int], seed: int) -> tuple[Batch, list[np.ndarray]]:
    """A row in which no token comes twice, and its segments."""
    ids = np.random.default_rng(seed).permutation(np.arange(200, 2000))[: sum(lengths)]
    texts = np.split(ids.astype(np.int32), np.cumsum(lengths)[:-1])
    row = packed(texts, objective.row_len)
    return objective.example(row, np.random.default_rng(seed)), texts


def parts(batch: Batch, family: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a row of one text, without padding."""
    if family == 'decoder':
        return batch.tokens[batch.prefix], batch.targets[batch.loss_weights > 0]
    return batch.tokens[batch.segment_ids > 0], batch.targets[batch.decoder_segment_ids > 0]


def spans(target: np.ndarray) -> list[int]:
    """Lengths of the spans that the targets tell."""
    marks = np.flatnonzero(np.isin(target, LARGE.sentinel_ids))
    return [int(n) - 1 for n in np.diff([*marks, len(target) - 1])]


def test_lengths() -> None:
    # R of mean length 3 has the most inputs but for S at its least; X of it the most targets.
    objective = built(512)
    raw = objective.row_len
    assert raw == 566
    assert raw - round(0.15 * raw) + round(round(0.15 * raw) / 3) + 2 <= 512
    assert raw - int(0.1 * raw + 0.5) + 1 + 2 <= 512
    noise = round(0.5 * raw)
    assert objective.target_len == noise + round(noise / 3) + 1 == 378
    decoder = built(512, 'decoder')
    noise = round(0.5 * decoder.row_len)
    assert decoder.row_len + 2 * round(noise / 3) + 2 <= 512
    assert (decoder.row_len, decoder.target_len) == (382, 512)


@both_families
def test_all_seven_come_equally_often_with_their_modes_rates_and_lengths(family: str) -> None:
    objective = built(512, family)
    raw = objective.row_len
    counts: Counter[tuple[int, int, int]] = Counter()
    shares: list[float] = []
    for seed in range(1400):
        batch, [text] = example(objective, [raw], seed)
        given, said = parts(batch, family)
        lengths = spans(said)
        assert given[0] in (R, S, X) and given[-1] == said[-1] == EOS
        assert not np.isin(given, said[said >= 200]).any()
        noise = sum(lengths)
        if given[0] == S:
            assert len(lengths) == 1 and given[-2] == LARGE.sentinel_ids[0]
            assert said[1:-1].tolist() == text[-noise:].tolist()
            shares.append(noise / raw)
            noise = -1
        counts[int(given[0]), noise, len(lengths)] += 1
    low, half = round(0.15 * raw), round(0.5 * raw)
    expected = {
        (R, low, round(low / 3)), (R, low, round(low / 8)), (S, -1, 1),
        (X, half, round(half / 3)), (X, half, round(half / 8)),
        (X, low, round(low / 64)), (X, half, round(half / 64)),
    }  # fmt: skip
    assert set(counts) == expected
    # Chi-square with 6 degrees of freedom.
    assert sum((c - 200) ** 2 / 200 for c in counts.values()) < 22.5  # p = 0.001
    # S: uniform from 0.1 to 0.4; chi-square with 5 degrees of freedom.
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)
    bins, _ = np.histogram(shares, bins=6, range=(0.0985, 0.4015))
    assert bins.sum() == len(shares)
    assert sum((c - len(shares) / 6) ** 2 for c in bins) / (len(shares) / 6) < 20.5  # p = 0.001


@both_families
@pytest.mark.parametrize('seq_len', [6, 7, 16, 64, 128])
def test_any_row_inverts_and_what_is_left_out_is_counted(family: str, seq_len: int) -> None:
    objective = built(seq_len, family)
    rng = np.random.default_rng(seq_len)
    most = min(objective._most_segments(denoiser) for denoiser in DENOISERS)
    for trial in range(60):
        row_len = objective.row_len
        cuts = rng.choice(row_len - 1, min(int(rng.integers(1, 14)), row_len) - 1, False) + 1
        lengths = np.diff(np.sort([0, row_len, *cuts])).tolist()
        batch, texts = example(objective, lengths, trial)
        long_enough = [text.tolist() for text in texts if len(text) > 1]
        restored = [text.tolist() for text in objective.restore(batch)]
        assert [text for text in long_enough if text in restored] == restored
        assert objective.tokens_used(stack([batch])) == sum(map(len, restored))
        assert restored == long_enough or len(long_enough) > most
    assert most >= 3 or seq_len < 64


@both_families
def test_half_a_row_fits_too(family: str) -> None:
    objective = built(64, family)
    for seed in range(40):
        batch, texts = example(objective, [9, 2, 5, 12], seed)
        restored = [text.tolist() for text in objective.restore(batch)]
        assert restored == [text.tolist() for text in texts]


def test_a_decoder_sees_its_inputs_both_ways_and_no_target_ahead() -> None:
    objective = ul2.build(Options(), VOCABULARY, 40, 'decoder')
    row = text_row([16, 12], objective.row_len, boundaries=False, distinct=True)
    model = tiny('llama', vocab_size=SIZE, max_positions=40, num_layers=1)
    place = np.arange(40)
    for seed in (0, 1):
        batch = stack([objective.example(row, np.random.default_rng(seed))])
        segments, prefix = batch.segment_ids[0], batch.prefix[0]
        may = (segments[:, None] == segments) & ((place[:, None] >= place) | prefix)
        real = segments > 0
        np.testing.assert_array_equal(seen(model, batch)[real], may[real])
        for t in np.flatnonzero(batch.loss_weights[0]):
            assert t + 1 == len(place) or not may[t, t + 1]


@both_families
def test_refusals_are_one_line(family: str) -> None:
    for given, seq_len, words in (
        (LARGE, 3, 'train.seq_len=3: ul2 needs at least'),
        (LARGE, 2048, 'train.seq_len=2048: ul2 needs'),
        (replace(LARGE, mode_ids=()), 64, 'objective.name=ul2: the tokenizer has no sentinels'),
    ):
        with pytest.raises(UserError) as error:
            ul2.build(Options(), given, seq_len, family)
        assert words in str(error.value) and '\n' not in str(error.value)


def test_the_mixture_is_that_of_table_1() -> None:
    table = {
        ('[R]', 0.15, 3), ('[R]', 0.15, 8), ('[S]', 0.25, None), ('[X]', 0.5, 3),
        ('[X]', 0.5, 8), ('[X]', 0.15, 64), ('[X]', 0.5, 64),
    }  # fmt: skip
    assert {(d.mode, d.noise_rate, d.mean_span_length) for d in DENOISERS} == table
