"""BART's denoising: what is hidden, how long the spans are, and the sentences' order."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lm.batch import Batch, stack
from lm.errors import UserError
from lm.objectives import denoising
from lm.objectives.denoising import Denoising, Options
from tests.models.tiny import tiny
from tests.objectives.rows import SIZE, VOCABULARY, packed, text_row, vocabulary
from tests.objectives.seen import seen

LARGE = vocabulary(size=2000)
MASK, BOS, EOS = LARGE.mask_id, LARGE.bos_id, LARGE.eos_id


def built(seq_len: int, **options: float | bool) -> Denoising:
    return denoising.build(Options(**options), LARGE, seq_len)


def example(objective: Denoising, lengths: list[int], seed: int = 0) -> tuple[Batch, list]:
    """A row in which no token comes twice, and its segments, each with a bos and an eos."""
    ids = np.random.default_rng(seed).permutation(np.arange(100, 2000))[: sum(lengths)]
    texts = np.split(ids.astype(np.int32), np.cumsum(lengths)[:-1])
    for text in texts:
        text[0], text[-1] = BOS, EOS
    row = packed(texts, objective.row_len)
    return objective.example(row, np.random.default_rng(seed)), texts


@pytest.mark.parametrize(('seq_len', 'raw'), [(512, 640), (128, 160), (64, 80)])
def test_lengths(seq_len: int, raw: int) -> None:
    objective = built(seq_len)
    noise = round(0.3 * raw)
    assert raw - noise + round(noise / 3) == seq_len
    assert objective.row_len == objective.target_len == raw


@pytest.mark.parametrize('lengths', [[640], [300, 340], [3, 637], [100, 400, 140], [20] * 32])
def test_full_rows_fill_both_sides(lengths: list[int]) -> None:
    objective = built(512)
    batch, _ = example(objective, lengths)
    assert (batch.segment_ids > 0).all() and (batch.decoder_segment_ids > 0).all()
    assert (batch.loss_weights == 1).all()
    assert objective.tokens_used(stack([batch])) == 640
    assert (batch.tokens == MASK).sum() == 64
    # The rate, exactly: what the encoder lacks.
    assert len(set(batch.targets) - set(batch.tokens)) == round(0.3 * 640)


@pytest.mark.parametrize('seq_len', [2, 3, 8, 61])
@pytest.mark.parametrize('noise_rate', [0.01, 0.3, 0.8])
def test_any_row_inverts(seq_len: int, noise_rate: float) -> None:
    objective = built(seq_len, noise_rate=noise_rate)
    rng = np.random.default_rng(seq_len)
    for trial in range(12):
        row_len = objective.row_len
        cuts = rng.choice(row_len - 1, int(rng.integers(1, min(row_len, 9))) - 1, False) + 1
        lengths = np.diff(np.sort([0, row_len, *cuts])).tolist()
        batch, texts = example(objective, lengths, trial)
        restored = [text.tolist() for text in objective.restore(batch)]
        assert restored == [text.tolist() for text in texts][: len(restored)]
        assert objective.tokens_used(stack([batch])) == sum(map(len, restored))
        noise = round(noise_rate * row_len)
        if len(texts) <= noise / 3 and sum(lengths) - 2 * len(lengths) >= noise:
            assert len(restored) == len(texts)
        for number, text in enumerate(texts[: len(restored)], start=1):
            said = batch.decoder_segment_ids == number
            assert batch.decoder_tokens[said].tolist() == [0, *text[:-1]]


def test_what_the_encoder_reads_is_the_rest_of_each_sentence() -> None:
    objective = built(512)
    batch, texts = example(objective, [200, 440])
    for number, text in enumerate(texts, start=1):
        read = batch.tokens[batch.segment_ids == number]
        assert (read[0], read[-1]) == (BOS, EOS)
        kept = read[(read != MASK)][1:-1].tolist()
        places = {token: i for i, token in enumerate(text.tolist())}
        sentences = objective.sentences(text[1:-1])
        assert len(sentences) > 5
        owner = {t: i for i, sentence in enumerate(sentences) for t in sentence.tolist()}
        order = [owner[token] for token in kept]
        # Each sentence in one piece, its tokens in their order, the sentences in another.
        runs = [order[i] for i in range(len(order)) if i == 0 or order[i] != order[i - 1]]
        assert len(runs) == len(set(runs)) and runs != sorted(runs)
        for i in set(runs):
            inside = [places[token] for token in kept if owner[token] == i]
            assert inside == sorted(inside)


def test_a_sentence_ends_with_a_mark_before_a_word() -> None:
    # In the tests' vocabulary multiples of 7 end in a full stop and those of 3 begin a word.
    text = np.array([105, 110, 112, 114, 115, 119, 120, 121, 126], np.int32)
    parts = [part.tolist() for part in built(64).sentences(text)]
    assert parts == [[105, 110, 112], [114, 115, 119], [120, 121, 126]]
    text[3] = 115  # begins no word
    assert [len(part) for part in built(64).sentences(text)] == [6, 3]


def test_every_order_of_sentences_is_equally_likely() -> None:
    """Three sentences, 6 orders; chi-square with 5 degrees of freedom."""
    objective = built(64, noise_rate=0.01)
    texts = [[105, 112], [108, 110, 119], [111, 126]]
    whole = [token for text in texts for token in text]
    row = packed([[BOS, *whole, EOS]], objective.row_len)
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(3000):
        tokens = objective.example(row, np.random.default_rng(seed)).tokens.tolist()
        owners = [i for t in tokens for i, text in enumerate(texts) if t in text]
        counts[tuple(dict.fromkeys(owners))] += 1
    assert len(counts) == 6
    assert sum((c - 500) ** 2 / 500 for c in counts.values()) < 20.5  # p = 0.001
    still = replace(objective, options=Options(noise_rate=0.01, permute_sentences=False))
    tokens = still.example(row, np.random.default_rng(0)).tokens
    assert [t for t in tokens if t >= 100] == [t for t in whole if t in tokens]


def test_span_lengths_are_poisson() -> None:
    """Chi-square with 9 degrees of freedom. Masks side by side are left out: where a span lies does
    not depend on its length."""
    objective = built(512, permute_sentences=False)
    lengths: list[int] = []
    for seed in range(120):
        batch, [text] = example(objective, [640], seed)
        places = {token: i for i, token in enumerate(text.tolist())}
        tokens = batch.tokens.tolist()
        for i in np.flatnonzero(batch.tokens == MASK):
            if MASK not in (tokens[i - 1], tokens[i + 1]):
                lengths.append(places[tokens[i + 1]] - places[tokens[i - 1]] - 1)
    assert len(lengths) > 5000
    expected = [math.exp(-3) * 3**n / math.factorial(n) * len(lengths) for n in range(9)]
    counts = np.bincount(np.minimum(lengths, 9), minlength=10)
    expected.append(len(lengths) - sum(expected))
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # p = 0.001


def test_every_token_is_hidden_as_often() -> None:
    objective = built(64)
    [text] = example(objective, [80])[1]
    row = packed([text], objective.row_len)
    rows = [objective.example(row, np.random.default_rng(i)).tokens for i in range(1500)]
    hidden = 1 - np.mean([np.isin(text, tokens) for tokens in rows], axis=0)
    assert hidden[0] == hidden[-1] == 0
    assert hidden[1:-1].mean() == pytest.approx(24 / 78)
    assert np.abs(hidden[1:-1] - 24 / 78).max() < 5 * np.sqrt(0.3 * 0.7 / 1500)


def test_what_is_hidden_has_no_way_to_the_loss() -> None:
    small = denoising.build(Options(), VOCABULARY, 24)
    row = text_row([16, 14], small.row_len, boundaries=True, distinct=True)
    batch = stack([small.example(row, np.random.default_rng(0))])
    hidden = np.setdiff1d(row.tokens, batch.tokens)
    assert len(hidden) == round(0.3 * small.row_len)
    model = tiny('t5', vocab_size=SIZE, max_positions=64, num_layers=1)
    own, said = batch.segment_ids[0], batch.decoder_segment_ids[0]
    places = np.arange(len(said))
    counts = batch.loss_weights[0] > 0
    np.testing.assert_array_equal(seen(model, batch)[counts], (said[:, None] == own)[counts])
    before = (said[:, None] == said) & (places[:, None] >= places)
    np.testing.assert_array_equal(seen(model, batch, 'decoder_tokens')[counts], before[counts])


def test_of_many_short_documents_some_stay_whole() -> None:
    objective = built(64)
    batch, texts = example(objective, [6] * 12)
    assert len(objective.restore(batch)) == len(texts)
    changed = [(batch.tokens[batch.segment_ids == i + 1] == MASK).any() for i in range(12)]
    assert sum(changed) == 7


def test_what_does_not_fit_is_counted() -> None:
    """Of 20 documents of 2 tokens, 8 spans can hide 16 of the 24 that there should be."""
    objective = built(64)
    batch, texts = example(objective, [4] * 20)
    restored = objective.restore(batch)
    assert 16 <= len(restored) < 20
    assert [t.tolist() for t in restored] == [t.tolist() for t in texts[: len(restored)]]
    assert objective.tokens_used(stack([batch])) == 4 * len(restored)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'noise_rate': 1.0}, 'noise_rate=1.0: must be in (0, 1)'),
        ({'mean_span_length': 0.5}, 'mean_span_length=0.5: must be at least 1'),
    ],
)
def test_bad_options(options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError) as error:
        Options(**options)
    assert words in str(error.value)


def test_a_vocabulary_without_mask_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match='^objective.name=denoising: the tokenizer has no mask id'):
        denoising.build(Options(), replace(LARGE, mask_id=None), 64)
