from collections.abc import Iterator

import pytest

from lm.config import DataConfig
from lm.data.sources import PARTS, Document, Part, Reading, open_source
from lm.data.split import LONG_LINE_CHARS, cut_by_position, name_hash, split_source
from lm.errors import UserError


class Texts:
    """A source of given texts."""

    has_validation = False

    def __init__(self, texts: dict[str, str]):
        self.facts = {'source': 'texts'}
        self.texts = texts

    def fingerprint(self) -> str:
        return ''

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        for name, text in self.texts.items():
            reading.documents += 1
            yield Document(name, text)


def sides(source, fraction: float = 0.1) -> dict[str, list[Document]]:
    split = split_source(source, fraction)
    return {part: list(split.documents(part, Reading())) for part in PARTS}


def test_one_document_is_split_at_its_byte():
    text = 'abcdefgh' * 125 + 'xyz'
    cut = sides(Texts({'one': text}))
    assert cut['train'][0].text == text[: int(0.9 * 1003)]
    assert cut['train'][0].text + cut['validation'][0].text == text


def test_the_cut_moves_back_to_a_whole_character():
    train, held_out = cut_by_position('\U0001f600' * 5, 0.1)
    assert (train, held_out) == ('\U0001f600' * 4, '\U0001f600')


def test_documents_are_split_by_the_hash_of_their_names():
    texts = {f'd{i}': f'text {i}' for i in range(2000)}
    cut = sides(Texts(texts))
    assert all(name_hash(d.name) < 0.1 for d in cut['validation'])
    assert all(name_hash(d.name) >= 0.1 for d in cut['train'])
    assert len(cut['train']) + len(cut['validation']) == 2000
    assert 150 < len(cut['validation']) < 250
    fewer = sides(Texts({n: texts[n] for n in list(texts)[::2]}))
    assert {d.name for d in fewer['validation']} <= {d.name for d in cut['validation']}


@pytest.mark.parametrize('fraction', [1e-9, 1 - 1e-9])
def test_neither_side_is_empty(fraction: float):
    cut = sides(Texts({f'd{i}': f'text {i}' for i in range(3)}), fraction)
    assert sorted(len(documents) for documents in cut.values()) == [1, 2]


def long_lines(documents: list[Document]) -> set[str]:
    lines = (line.strip() for document in documents for line in document.text.split('\n'))
    return {line for line in lines if len(line) >= LONG_LINE_CHARS}


def test_no_long_line_is_on_both_sides():
    licence = 'This line of a licence is longer than sixty-four characters, and is everywhere.'
    texts = {f'd{i}': f'short {i}\n  {licence}\n{i} {"of its own " * 9}\nsame' for i in range(100)}
    split = split_source(Texts(texts), 0.1)
    reading = Reading()
    cut = {part: list(split.documents(part, reading)) for part in PARTS}
    assert not long_lines(cut['train']) & long_lines(cut['validation'])
    owner, other = ('train', 'validation') if licence in cut['train'][0].text else PARTS[::-1]
    assert all(licence in d.text for d in cut[owner])
    assert split.removed[other].lines == len(cut[other])
    assert split.removed[other].bytes == len(cut[other]) * (len(licence) + 3)
    assert split.removed[owner].lines == 0
    assert all('same' in d.text for part in PARTS for d in cut[part])


def test_repeated_documents_are_dropped_from_one_side_and_counted():
    texts = {
        f'd{i}': f'the same text {i % 30} in several documents, {"x" * 60}' for i in range(150)
    }
    split = split_source(Texts(texts), 0.2)
    reading = Reading()
    cut = {part: list(split.documents(part, reading)) for part in PARTS}
    assert not long_lines(cut['train']) & long_lines(cut['validation'])
    kept = sum(map(len, cut.values()))
    assert kept + sum(reading.dropped.values()) == 150
    assert cut['train'] and cut['validation']


def test_no_long_line_of_the_standard_library_is_on_both_sides():
    cut = sides(open_source(DataConfig(source='stdlib')))
    assert not long_lines(cut['train']) & long_lines(cut['validation'])
    assert 0.03 < sum(len(d.text) for d in cut['validation']) / 2_000_000 < 0.2


@pytest.mark.parametrize('texts', [{}, {'one': 'x'}, {'one': 'x' * 100, 'two': 'x' * 100}])
def test_too_little_text_is_one_line(texts: dict[str, str]):
    with pytest.raises(UserError, match=r'data.source=texts: (empty|too little text)'):
        split_source(Texts(texts), 0.1)
