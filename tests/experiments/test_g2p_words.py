"""The pronouncing dictionary as examples: its traps, and the split."""

import json
from collections import Counter
from pathlib import Path

import pytest

from experiments._g2p import SHARES, in_graphemes, part_of, read_dictionary, write_examples
from lm.errors import UserError
from tests.data.corpora import corpus

LINES = """'bout B AW1 T
a AH0
a(2) EY1
aalborg AO1 L B AO0 R G # place, danish
aalborg(2) AA1 L B AO0 R G

record R AH0 K AO1 R D
record(2) R EH1 K ER0 D
record(3) R AH1 K AO0 R D   # differs by stress alone
well-known W EH1 L N OW1 N
"""


def said(phonemes: str) -> tuple[str, ...]:
    return tuple(phonemes.split(' '))


@pytest.fixture
def source(tmp_path: Path) -> str:
    file = tmp_path / 'cmudict.dict'
    file.write_text(LINES)
    return str(file)


def test_variants_are_of_one_word_and_comments_are_none_of_it(source: str) -> None:
    words = read_dictionary(source, stress=True)
    assert list(words) == ["'bout", 'a', 'aalborg', 'record', 'well-known']
    assert words['a'] == [('AH0',), ('EY1',)]
    assert words['aalborg'] == [said('AO1 L B AO0 R G'), said('AA1 L B AO0 R G')]
    assert len(words['record']) == 3


def test_without_stress_there_are_fewer_pronunciations(source: str) -> None:
    words = read_dictionary(source, stress=False)
    assert words['record'] == [said('R AH K AO R D'), said('R EH K ER D')]
    assert words["'bout"] == [('B', 'AW', 'T')]
    assert list(in_graphemes(words)) == ["'bout", 'a', 'aalborg', 'record']


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a AH0\nabc\n', 'line 2 is no word with its phonemes'),
        ('a AH0\nb # B IY1\n', 'line 2 is no word with its phonemes'),
        ('a AH0\nthe quick fox\n', "line 2 is no word with its phonemes: 'the quick fox'"),
        ('a AH3\n', 'line 1 is no word'),
        ('# nothing\n', 'holds no word'),
    ],
)
def test_what_is_no_dictionary_is_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / 'words'
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_dictionary(str(file), stress=True)
    assert '\n' not in str(caught.value)
    with pytest.raises(UserError, match='cannot be read'):
        read_dictionary(str(tmp_path / 'absent'), stress=True)


def test_records_of_a_word_are_of_one_part(tmp_path: Path) -> None:
    words = {f'w{i}': [('B', 'IY1'), ('B',)] for i in range(2000)}
    files = write_examples(words, tmp_path / 'examples')
    assert list(files) == list(SHARES)
    of_part = {
        part: [json.loads(line) for line in file.read_text().splitlines()]
        for part, file in files.items()
    }
    found = Counter(record['id'] for records in of_part.values() for record in records)
    assert found == dict.fromkeys(words, 2)
    for part, records in of_part.items():
        assert {part_of(record['id']) for record in records} == {part}
        assert len(records) / 4000 == pytest.approx(SHARES[part], abs=0.02)
    first = of_part['train'][0]
    assert first['input'] == ' '.join(first['id']) and first['target'] == 'B IY1'
    # A word stays where it is, whatever else there is.
    fewer = write_examples(dict(list(words.items())[:500]), tmp_path / 'fewer')
    assert set(fewer['test'].read_text().splitlines()) < set(files['test'].read_text().splitlines())
    with pytest.raises(UserError, match='has 1 words, of which none is in'):
        write_examples({'a': [('AH0',)]}, tmp_path / 'none')


def test_the_dictionary_itself() -> None:
    path = str(corpus('tasks/g2p/cmudict.dict'))
    words = read_dictionary(path, stress=True)
    assert (len(words), len(in_graphemes(words))) == (126_052, 124_926)
    # One line of 135,166 says what another has said.
    assert sum(map(len, words.values())) == 135_164
    plain = read_dictionary(path, stress=False)
    assert (
        len({phoneme for several in plain.values() for each in several for phoneme in each}) == 39
    )
    assert words['aalborg'][0] == said('AO1 L B AO0 R G')
