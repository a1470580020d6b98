"""Labelled files of every layout become records; what is not one is refused by its place."""

import csv
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from lm import UserError
from lm.config import DataConfig
from lm.data.record_files import RecordFiles
from lm.data.sources import Reading, open_source
from lm.data.tfds_records import TfdsRecords
from tests.data.corpora import corpus

RECORDS = [{'text': 'a "fine" thing', 'label': 'pos'}, {'text': 'dull', 'label': 'neg'}]


def records_of(source: Path | str, **settings: Any) -> list[tuple[str, Any]]:
    """Names and records, in order."""
    files = RecordFiles(str(source), **{'unit': 'line', **settings})
    return [(d.name, json.loads(d.text)) for d in files.documents(Reading())]


def write(path: Path, kind: str) -> Path:
    if kind == '.jsonl':
        path.write_text('\n'.join(map(json.dumps, RECORDS)) + '\n\n')
    elif kind == '.json':
        path.write_text(json.dumps(RECORDS))
    elif kind == '.parquet':
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    elif kind == '.jsonl.gz':
        path.write_bytes(gzip.compress('\n'.join(map(json.dumps, RECORDS)).encode()))
    elif kind == '.csv':
        with path.open('w', newline='') as file:
            writer = csv.DictWriter(file, ['text', 'label'])
            writer.writeheader()
            writer.writerows(RECORDS)
    else:
        lines = [f'{r["text"]}\t{r["label"]}' for r in RECORDS]
        path.write_text('\n'.join(['text\tlabel', *lines]) + '\n')
    return path


@pytest.mark.parametrize('kind', ['.jsonl', '.jsonl.gz', '.json', '.csv', '.tsv', '.parquet'])
def test_layouts_hold_the_same_records(kind: str, tmp_path: Path) -> None:
    found = records_of(write(tmp_path / f'examples{kind}', kind))
    assert [record for _, record in found] == RECORDS
    assert len({name for name, _ in found}) == len(RECORDS)


def test_quotes_of_tsv_are_characters(tmp_path: Path) -> None:
    path = tmp_path / 'a.tsv'
    path.write_text('text\tlabel\n"fine" thing\tpos\n"open\tneg\n')
    assert [record['text'] for _, record in records_of(path)] == ['"fine" thing', '"open']


def test_an_object_of_objects(tmp_path: Path) -> None:
    path = tmp_path / 'all.json'
    path.write_text(json.dumps({'first': RECORDS[0], 'second': RECORDS[1]}))
    assert records_of(path) == [('all.json:first', RECORDS[0]), ('all.json:second', RECORDS[1])]


def test_questions_of_a_paragraph_have_one_name(tmp_path: Path) -> None:
    asked = [
        {'id': i, 'question': 'who?', 'answers': [{'text': 'Ada', 'answer_start': 0}]}
        for i in (7, 8)
    ]
    paragraphs = [{'context': 'Ada wrote it.', 'qas': asked}, {'context': 'Ada.', 'qas': asked[:1]}]
    path = tmp_path / 'squad.json'
    path.write_text(json.dumps({'data': [{'title': 'x', 'paragraphs': paragraphs}]}))
    found = records_of(path)
    assert [name for name, _ in found] == ['squad.json:0:0', 'squad.json:0:0', 'squad.json:0:1']
    assert found[0][1]['answers'] == {'text': ['Ada'], 'answer_start': [0]}
    assert found[1][1]['id'] == '8'


def test_sentences_end_at_blank_lines_and_at_a_tab(tmp_path: Path) -> None:
    path = tmp_path / 'ner.conll'
    path.write_text(
        '\ufeff-DOCSTART- -X- O O\n\nEmpire\tB-loc\nState\tI-loc\n\t\nIt\tO\n\n\nis NN O\n'
        '\nNew York\tB-loc\n10\u00a0000\tO\n10\u00a0000  CD O\n', encoding='utf-8',
    )  # fmt: skip
    found = [record for _, record in records_of(path)]
    # A blank within a token is its own.
    assert found.pop() == {
        'tokens': ['New York', '10\u00a0000', '10\u00a0000'], 'tags': ['B-loc', 'O', 'O'],
    }  # fmt: skip
    assert found == [
        {'tokens': ['Empire', 'State'], 'tags': ['B-loc', 'I-loc']},
        {'tokens': ['It'], 'tags': ['O']},
        {'tokens': ['is'], 'tags': ['O']},
    ]


def test_plain_texts_have_the_label_of_their_file(tmp_path: Path) -> None:
    (tmp_path / 'rt.pos').write_bytes('caf\xe9 good \nfine\n'.encode('latin-1'))
    (tmp_path / 'rt.neg').write_text('bad\n')
    (tmp_path / 'more' / 'pos').mkdir(parents=True)
    (tmp_path / 'more' / 'pos' / '0_9.txt').write_text('a film\nof note\n')
    found = [record for _, record in records_of(tmp_path / 'rt.*', encoding='latin-1')]
    assert found == [
        {'text': 'bad', 'label': 'neg'},
        {'text': 'caf\xe9 good', 'label': 'pos'},
        {'text': 'fine', 'label': 'pos'},
    ]
    of_file = records_of(tmp_path / 'more' / 'pos' / '0_9.txt', unit='file')
    assert [record['label'] for _, record in of_file] == ['pos']
    of_folder = records_of(tmp_path / 'more', unit='file')
    assert of_folder == [('pos/0_9.txt', {'text': 'a film\nof note', 'label': 'pos'})]


def test_texts_beside_records_are_no_examples(tmp_path: Path) -> None:
    (tmp_path / 'a.csv').write_text('\ufeff"text","label"\nx,y\n', encoding='utf-8')
    assert records_of(tmp_path) == [('a.csv:2', {'text': 'x', 'label': 'y'})]
    (tmp_path / 'README.md').write_text('# Films')
    with pytest.raises(
        UserError, match=r'holds texts \(README\.md\) beside records \(a\.csv\); .*/\*\.csv'
    ):
        records_of(tmp_path)
    assert len(records_of(f'{tmp_path}/*.csv')) == 1


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('a.jsonl', '{"text": 1}\n[2]\n', r'a\.jsonl:2: not a JSON object but list'),
        ('a.jsonl', '{"text": \n', r'a\.jsonl:1: not JSON'),
        ('a.jsonl', '{"text": "\\ud800"}\n', r'a\.jsonl:1 holds an unpaired surrogate \\ud800'),
        ('a.json', '3', r'a\.json: holds no records'),
        ('a.json', '{"data": [{"paragraphs": [{}]}]}', r"article 0 is not in SQuAD's layout"),
        ('a.csv', 'text,label\nx,y,z\n', r'a\.csv:2: has 3 columns, where the first line names 2'),
        ('a.csv', 'text,label\n"x,y\n', r'a\.csv:\d: '),
        ('a.csv', 'text,text\nx,y\n', r"a\.csv: names the column 'text' twice"),
        ('a.json', '[' * 100_000, r'a\.json: not JSON'),
        ('a.json', '[]', r'holds no record; give'),
        ('a.conll', 'word\n', r"a\.conll:1: holds 'word', where a token and its tag should stand"),
    ],
)
def test_mistakes_are_told_by_their_place(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=words):
        records_of(tmp_path / name)


def test_bytes_of_parquet_are_text(tmp_path: Path) -> None:
    path = tmp_path / 'a.parquet'
    table = pyarrow.table({'text': [b'caf\xc3\xa9'], 'label': ['pos']})
    pyarrow.parquet.write_table(table, path)
    assert records_of(path)[0][1] == {'text': 'caf\xe9', 'label': 'pos'}
    pyarrow.parquet.write_table(pyarrow.table({'text': [b'\xff']}), path)
    with pytest.raises(UserError, match=r'a\.parquet:1: holds bytes that are not UTF-8'):
        records_of(path)


def test_latin_1_given_as_utf_8_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / 'rt.pos').write_bytes(b'good\ncaf\xe9 society\n')
    with pytest.raises(UserError, match=r'not UTF-8 \(0xe9 at byte 8\); set data\.encoding'):
        records_of(tmp_path / 'rt.pos')


def test_sentiment_is_read_whole() -> None:
    source = corpus('tasks/sentiment_mr/rt-polarity.pos').with_suffix('.*')
    found = [record for _, record in records_of(source, encoding='latin-1')]
    assert len(found) == 2 * 5331
    assert sum(record['label'] == 'pos' for record in found) == 5331


def test_wnut17_has_all_its_sentences() -> None:
    path = corpus('tasks/ner_wnut17/wnut17train.conll')
    found = [record for _, record in records_of(path)]
    lines = path.read_text().split('\n')
    # The breaks are lines of a single TAB.
    assert lines.count('\t') == 2394
    assert len(found) == 3394
    assert sum(len(record['tokens']) for record in found) == sum(bool(x.strip()) for x in lines)


def test_another_file_is_held_out(tmp_path: Path) -> None:
    for name, number in (('train', 0), ('dev', 1)):
        (tmp_path / f'{name}.jsonl').write_text(json.dumps(RECORDS[number]) + '\n')
    data = DataConfig(
        source=str(tmp_path / 'train.jsonl'), validation_source=str(tmp_path / 'dev.jsonl')
    )
    source = open_source(data, examples=True)
    assert source.has_validation
    sides = {
        part: [json.loads(d.text) for d in source.documents(Reading(), part)]
        for part in ('train', 'validation')
    }
    assert sides == {'train': RECORDS[:1], 'validation': RECORDS[1:]}
    other = open_source(DataConfig(source=data.source), examples=True)
    assert source.fingerprint() != other.fingerprint()


def test_bytes_of_an_example_that_are_not_text_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Builder:
        info = SimpleNamespace(features={'text': None})

        def as_data_source(self, split: str) -> list[dict[str, bytes]]:
            return [{'text': b'fine'}, {'text': b'caf\xe9'}]

    def found(self: TfdsRecords, source: str) -> None:
        self._source, self._builder, self._training_splits = source, Builder(), ['train']

    monkeypatch.setattr(TfdsRecords, '__init__', found)
    read = TfdsRecords('tfds:films').documents(Reading())
    assert json.loads(next(read).text) == {'text': 'fine'}
    with pytest.raises(UserError, match=r'tfds:films: train/1 holds bytes that are not UTF-8'):
        next(read)
