import random
import re
import subprocess
import sys

import numpy as np
import pytest

from lm.data.escape import escape, unescape
from lm.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from lm.errors import UserError
from lm.vocabulary import MODES, NUM_SENTINELS
from tests.data.corpora import corpus, words

SPELLED_SPECIALS = ['<s>', '</s>', '<pad>', '<unk>', '<mask>', '<extra_id_0>', '[R]', '<0x41>']
AWKWARD = [
    '', ' ', '\n', '\t', '\0', '\x10', '\x10_', '\x10\x10#', '\u2581', ' \u2581 \u2581\u2581',
    '\u2585', '\ufeffbom', 'a\r\nb\rc', '   leading', 'trailing   ', '\x0b\t\x0b',
    '\u2047', '\ufffd', 'e\u0301 \u00e9 \uac00 \u1100\u1161',
    '\U0001f469\u200d\U0001f680', '\ufffe\uffff\U0010ffff',
    '\x10|\x0b|', ''.join(map(chr, range(256))),
    *SPELLED_SPECIALS, ' '.join(SPELLED_SPECIALS), ''.join(SPELLED_SPECIALS),
]  # fmt: skip


def random_text(rng: random.Random) -> str:
    ranges = [(0, 0x7F), (0x80, 0x7FF), (0x2570, 0x2590), (0x800, 0xD7FF), (0xE000, 0x10FFFF)]
    characters = (chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(0, 60)))
    return ''.join(rng.choice([c, ' ', '\n', '\x10', '\u2581', 'a', '<s>']) for c in characters)


@pytest.fixture(scope='module', params=['unigram', 'bpe', 'char'])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    # The specials' spellings are frequent in the text, and so would be pieces of it if they could.
    texts = [words(3000), ' '.join(SPELLED_SPECIALS) * 50, '\tindented\t\n' * 50]
    return train_tokenizer(request.param, texts, None)


def test_any_text_comes_back_byte_for_byte(tokenizer: Tokenizer):
    rng = random.Random(0)
    texts = [*AWKWARD, *(random_text(rng) for _ in range(300))]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids.dtype == np.int32
        assert tokenizer.decode(ids) == text
        assert tokenizer.vocabulary.unk_id not in ids
    assert tokenizer.lossless


def test_text_longer_than_a_stretch_comes_back(tokenizer: Tokenizer):
    text = words(40_000) + 'x' * 200_000 + '\u2581 ' * 40_000
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_raw_text_never_gives_a_special_id(tokenizer: Tokenizer):
    special = tokenizer.vocabulary.special_ids
    for text in AWKWARD:
        assert special.isdisjoint(tokenizer.encode(text).tolist())


def test_special_ids_and_their_pieces(tokenizer: Tokenizer):
    vocabulary = tokenizer.vocabulary
    five = [vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id]
    assert five == [0, 1, 2, 3]
    assert vocabulary.mask_id == 4
    assert vocabulary.sentinel_ids == tuple(range(5, 5 + NUM_SENTINELS))
    assert tokenizer.pieces(vocabulary.mode_ids) == list(MODES)
    assert tokenizer.pieces([0, 1, 2, 4, 5]) == ['<pad>', '<s>', '</s>', '<mask>', '<extra_id_0>']
    assert tokenizer.decode([1, *tokenizer.encode('a cat'), 2, 5, 0]) == 'a cat'
    assert tokenizer.decode([vocabulary.size + 5]) == ''


def test_escaping_is_undone_for_any_text():
    rng = random.Random(1)
    for text in (*AWKWARD, *(random_text(rng) for _ in range(1000))):
        spelled = escape(text)
        assert unescape(spelled) == text
        assert not {'\u2581', '\u2585', '\0', '\t'} & set(spelled)


def test_training_twice_gives_the_same_model(tmp_path):
    first, second = (train_tokenizer('unigram', [words(3000)], None) for _ in range(2))
    assert first.sha256 == second.sha256
    first.save(tmp_path / 'saved.model')
    loaded = load_tokenizer(tmp_path / 'saved.model')
    assert loaded.sha256 == first.sha256
    assert loaded.vocabulary == first.vocabulary
    assert loaded.lossless


def test_word_is_lossy_and_says_so():
    tokenizer = train_tokenizer('word', [words(3000)], None)
    assert not tokenizer.lossless
    assert (
        tokenizer.decode(tokenizer.encode('the cat\nreads  a letter')) == 'the cat\nreads a letter'
    )
    assert tokenizer.vocabulary.unk_id in tokenizer.encode('zebra')


@pytest.mark.parametrize('kind', ['unigram', 'bpe', 'char', 'word'])
def test_too_large_a_vocabulary_is_told_the_largest_that_works(kind: str):
    texts = [words(2000)]
    with pytest.raises(UserError, match=r'model.vocab_size=90000: larger than') as caught:
        train_tokenizer(kind, texts, 90_000)
    largest = int(re.search(r'works is (\d+)', str(caught.value))[1])
    assert train_tokenizer(kind, texts, largest).vocabulary.size == largest
    with pytest.raises(UserError):
        train_tokenizer(kind, texts, largest + 1)


@pytest.mark.parametrize('kind', ['unigram', 'bpe', 'char', 'word'])
def test_too_small_a_vocabulary_is_told_the_smallest_that_works(kind: str):
    with pytest.raises(UserError, match=r'model.vocab_size=50: too small') as caught:
        train_tokenizer(kind, [words(2000)], 50)
    smallest = int(re.search(r'works is (\d+)', str(caught.value))[1])
    assert train_tokenizer(kind, [words(2000)], smallest).vocabulary.size == smallest


def test_newlines_are_within_pieces_of_real_text():
    text = corpus('general/tinyshakespeare.txt').read_text()[:300_000]
    tokenizer = train_tokenizer('unigram', [text], 1024)
    pieces = set(tokenizer.pieces(range(1024)))
    assert {'\n', '.\n\n', ':\n', ',\n'} <= pieces
    assert len(tokenizer.encode(text)) < len(text) / 2.2


@pytest.mark.parametrize(
    ('name', 'own_pad'), [('sentencepiece_test_model_1k', False), ('t5_cc_all_32k', True)]
)
def test_existing_model_gains_what_it_lacks(name: str, own_pad: bool):
    tokenizer = load_tokenizer(corpus(f'tokenizers/{name}.model'))
    vocabulary = tokenizer.vocabulary
    own = tokenizer._processor.get_piece_size()
    assert (vocabulary.pad_id < own) == own_pad
    assert vocabulary.mask_id >= own
    named = [vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id]
    ids = [*named, vocabulary.mask_id, *vocabulary.sentinel_ids, *vocabulary.mode_ids]
    assert len(set(ids)) == len(ids)
    assert max(ids) == vocabulary.size - 1
    assert not tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode('Hello world')) == 'Hello world'
    assert vocabulary.special_ids.isdisjoint(tokenizer.encode('<mask> <s> <pad>').tolist())


def test_user_defined_symbols_of_an_existing_model_are_recognised_but_not_matched(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words(2000).splitlines()), model_prefix=str(tmp_path / 'm'),
        vocab_size=60, model_type='bpe', user_defined_symbols=['<mask>'], minloglevel=3,
    )  # fmt: skip
    tokenizer = load_tokenizer(tmp_path / 'm.model')
    assert tokenizer.vocabulary.mask_id < 60
    assert tokenizer.vocabulary.mask_id not in tokenizer.encode('a cat <mask> <mask>')


def test_a_file_that_is_no_model_is_one_line():
    with pytest.raises(UserError, match=r'^data.tokenizer=.*not a SentencePiece model'):
        load_tokenizer(corpus('checkpoints/tok512.bin'))
    with pytest.raises(UserError, match=r'^data.tokenizer=/no/such.model: cannot be read'):
        load_tokenizer('/no/such.model')


def test_training_prints_nothing():
    code = (
        'from lm.data.tokenizer import train_tokenizer\n'
        "train_tokenizer('unigram', ['some words to learn from, some more\\n' * 200], None)"
    )
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, '', '')
