"""What begins a word and what ends a sentence, by a vocabulary's pieces."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from lm.data.tokenizer import load_tokenizer, train_tokenizer
from lm.vocabulary import Vocabulary, placeholder

SPACED = ['▁the', '▁', 'se', '\n', '<0x0A>', '##', '本', '語。', '▁a.', '3', ').\n', 'no!”']
MARKED = ['the', '##se', '##s', '##r', '.', '本', '3']


def of(pieces: list[str]) -> Vocabulary:
    def shown(ids: Iterable[int]) -> list[str]:
        return [pieces[i] for i in ids]

    return Vocabulary(len(pieces), 0, 0, 0, 0, None, (), (), shown)


def told(vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    ids = np.arange(vocabulary.size)
    found = vocabulary.begins_word(ids), vocabulary.ends_sentence(ids)
    starts, ends = (np.flatnonzero(x).tolist() for x in found)
    return starts, ends


def test_by_spaces() -> None:
    starts, ends = told(of(SPACED))
    assert [SPACED[i] for i in starts] == ['▁the', '▁', '\n', '<0x0A>', '本', '語。', '▁a.']
    assert [SPACED[i] for i in ends] == ['語。', '▁a.', ').\n', 'no!”']


def test_by_marks_of_what_continues() -> None:
    starts, ends = told(of(MARKED))
    assert [MARKED[i] for i in starts] == ['the', '.', '本', '3']
    assert [MARKED[i] for i in ends] == ['.']


def test_without_pieces_every_id_is_a_word() -> None:
    assert told(placeholder(110)) == (list(range(110)), [])


def test_ids_beyond_the_vocabulary_are_neither() -> None:
    vocabulary = of(SPACED)
    beyond = np.array([len(SPACED), 10_000])
    assert not vocabulary.begins_word(beyond).any() and not vocabulary.ends_sentence(beyond).any()


@pytest.mark.parametrize('kind', ['unigram', 'bpe', 'char'])
def test_of_a_tokenizer_trained_here(kind: str, tmp_path: Path) -> None:
    text = 'The cats sat. On 3.14 mats? Sure. No!'
    tokenizer = train_tokenizer(kind, [text] * 20, None)
    tokenizer.save(tmp_path / 'tokenizer.model')
    for each in (tokenizer, load_tokenizer(tmp_path)):
        ids = each.encode(text)
        starts = each.vocabulary.begins_word(ids)
        starts[0] = True
        words = [each.decode(part) for part in np.split(ids, np.flatnonzero(starts)[1:])]
        assert [word.strip() for word in words if word.strip()] == text.split()
