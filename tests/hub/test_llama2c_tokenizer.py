"""llama2.c's tokenizer.bin against run.c's own way to encode, written anew here."""

import struct

import numpy as np
import pytest

from lm.data.sentencepiece_tokenizer import SentencePieceTokenizer
from lm.errors import UserError
from lm.hub.llama2c_tokenizer import sentencepiece_model
from tests.data.corpora import corpus

VOCAB_SIZE = 512
FILE = '--tokenizer=tok.bin'
LILY = (
    'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. '
    'One day, she saw a big, red ball.'
)
TEXTS = [
    LILY, '', ' ', 'a', '  two  spaces \n\nand lines\t', 'na\u00efve caf\u00e9 \u2014 \u4e2d\u6587',
    '\U0001f600 smile', '<s> </s> <unk> <0x41>', 'Aaaaaaah!!! the the the', '\u200a\r\n',
    'hehehe hahaha ssssss', '~]',
]  # fmt: skip


@pytest.fixture(scope='module')
def data() -> bytes:
    return corpus('checkpoints/tok512.bin').read_bytes()


@pytest.fixture(scope='module')
def tokenizer(data: bytes) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(sentencepiece_model(data, VOCAB_SIZE, FILE), VOCAB_SIZE)


def table(data: bytes) -> tuple[list[bytes], list[float]]:
    pieces, scores, place = [], [], 4
    while place < len(data):
        score, length = struct.unpack_from('<fi', data, place)
        pieces.append(data[place + 8 : place + 8 + length])
        scores.append(score)
        place += 8 + length
    return pieces, scores


def run_c(text: str, pieces: list[bytes], scores: list[float]) -> list[int]:
    """`encode` of run.c: characters or bytes, then the best pair again and again."""
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokens = [ids[b' ']] if text else []
    for character in text:
        raw = character.encode()
        tokens += [ids[raw]] if raw in ids else [byte + 3 for byte in raw]
    while True:
        best, at = -1e10, -1
        for i in range(len(tokens) - 1):
            merged = ids.get(pieces[tokens[i]] + pieces[tokens[i + 1]])
            if merged is not None and scores[merged] > best:
                best, at = scores[merged], i
        if at < 0:
            return tokens
        tokens[at : at + 2] = [ids[pieces[tokens[at]] + pieces[tokens[at + 1]]]]


def test_ids_are_those_of_run_c(data: bytes, tokenizer: SentencePieceTokenizer):
    pieces, scores = table(data)
    story = corpus('general/botchan.txt').read_text(encoding='utf-8')[:3000]
    german = corpus('tasks/xquad/xquad.de.json').read_text(encoding='utf-8')[:3000]
    for text in [*TEXTS, story, german]:
        assert tokenizer.encode(text).tolist() == run_c(text, pieces, scores)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_known_sentence_has_44_ids(tokenizer: SentencePieceTokenizer):
    assert len(tokenizer.encode(LILY)) == 44


def test_special_ids(tokenizer: SentencePieceTokenizer):
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.unk_id, vocabulary.bos_id, vocabulary.eos_id) == (0, 1, 2)
    assert (vocabulary.size, vocabulary.pad_id, vocabulary.mask_id) == (VOCAB_SIZE, 2, None)
    assert tokenizer.pieces([1, 2, 3, 258, 259]) == ['<s>', '</s>', '<0x00>', '<0xFF>', '\u2581t']
    assert tokenizer.encode('the').dtype == np.int32


@pytest.mark.parametrize(
    ('change', 'vocab_size', 'words'),
    [
        (lambda d: d[:-3], 512, 'is cut short.*: 511 ids of 512'),
        (lambda d: d[:2], 512, 'is cut short.*: 0 ids of 512'),
        (lambda d: d[:-9], 512, 'is cut short'),
        (lambda d: d, 600, 'belongs to another model: 512 ids of 600'),
        (lambda d: d, 300, 'holds more than the 300 ids'),
        (lambda d: d + b'x', 512, 'holds more than the 512 ids'),
        (lambda d: d[:8] + b'\xff' * 4 + d[12:], 512, 'id 0 has no length'),
        (lambda d: d.replace(b'<0x41>', b'<0x42>'), 512, "id 68 is '<0x42>', no byte"),
        (lambda d: d.replace(b'<0x41>', b'\xff' * 6), 512, 'id 68 is no UTF-8'),
        (lambda d: d.replace(b'he', b'nd', 1), 512, 'nd is already defined'),
    ],
)
def test_another_file_is_told_in_a_line(data: bytes, change, vocab_size: int, words: str):
    with pytest.raises(UserError, match=f'^{FILE}: [^\n]*{words}[^\n]*$'):
        sentencepiece_model(change(data), vocab_size, FILE)
