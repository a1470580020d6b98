"""The 13-gram overlap against a plain count over sets of tuples."""

import random
import string

import pytest

from lm.evaluation import overlap as module
from lm.evaluation.overlap import Overlap, overlap, words_of

BANK = [''.join(random.Random(i).choices('abcde', k=3)) for i in range(12)]


def plainly(training: list[str], texts: list[str], n: int) -> Overlap:
    """The definition, exact, without a hash: every n-gram a tuple."""

    def words(text: str) -> list[str]:
        return ''.join(c for c in text.lower() if c not in string.punctuation).split()

    def ngrams(text: str) -> list[tuple[str, ...]]:
        w = words(text)
        return [tuple(w[i : i + n]) for i in range(len(w) - n + 1)]

    seen = {g for document in training for g in ngrams(document)}
    hits = [[g in seen for g in ngrams(text)] for text in texts]
    covered = sum(
        any(hit and i <= j < i + n for i, hit in enumerate(of_text))
        for of_text, text in zip(hits, texts, strict=True)
        for j in range(len(words(text)))
    )
    every = sum(len(words(text)) for text in texts)
    return Overlap(
        n, len(texts), sum(any(h) for h in hits), sum(len(words(t)) < n for t in texts),
        sum(map(len, hits)), sum(map(sum, hits)), covered / max(1, every),
    )  # fmt: skip


def text(seed: int, count: int) -> str:
    draw = random.Random(seed)
    ends = [' ', '  ', '\n', ', ', '. ', ' -- ']
    return ''.join(
        draw.choice([str.upper, str])(draw.choice(BANK)) + draw.choice(ends) for _ in range(count)
    )


@pytest.mark.parametrize('stretch', [1 << 20, 50, 7])
@pytest.mark.parametrize('n', [1, 3, 13])
def test_it_is_the_plain_count(n: int, stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, '_STRETCH', stretch)
    texts = [text(seed, 40 * seed) for seed in range(6)] + ['', 'one two', 'new words only ' * 9]
    training = [text(seed, 60) for seed in range(100, 120)]
    training += ['before it, ' + texts[4][30:150], texts[5][200:300] + 'and after']
    found = overlap(iter(training), texts, n)
    assert found == plainly(training, texts, n)
    assert 0 < found.shared_ngrams < found.ngrams
    assert 0 < found.covered_words < 1


def test_an_ngram_does_not_reach_over_the_end_of_a_document() -> None:
    asked = ' '.join(string.ascii_lowercase)
    assert overlap([asked[:26], asked[26:]], [asked], n=13).shared_ngrams == 2
    assert overlap([asked[:24], asked[26:]], [asked], n=13).shared_ngrams == 1
    assert overlap(string.ascii_lowercase, [asked], n=13).shared_ngrams == 0


def test_words_are_without_case_and_punctuation_of_any_script() -> None:
    assert words_of('The “cat’s” $3.50 -- hat?\nÉTÉ\t¿qué? हिन्दी।') == [
        'the', 'cats', '350', 'hat', 'été', 'qué', 'हिन्दी',
    ]  # fmt: skip


def test_short_texts_are_counted_apart() -> None:
    found = overlap(['a b c d'], ['a b', 'a b c', 'x y z', ''], n=3)
    assert found == Overlap(3, 4, 1, 2, 2, 1, 3 / 8)
    assert overlap(['a b'], [], n=3) == Overlap(3, 0, 0, 0, 0, 0, 0.0)
