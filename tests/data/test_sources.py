import gzip
import json
import re

import pyarrow.parquet
import pytest
import zstandard

from lm.config import DataConfig
from lm.data.sources import Document, Reading, open_source
from lm.errors import UserError
from tests.stores import put


def read(source, **settings) -> tuple[list[Document], Reading]:
    reading = Reading()
    opened = open_source(DataConfig(source=str(source), **settings))
    documents = list(opened.documents(reading))
    assert documents == list(opened.documents(Reading())), 'a second pass must be the same'
    return documents, reading


def error(source, **settings) -> str:
    with pytest.raises(UserError) as caught:
        read(source, **settings)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_file_is_one_document_to_the_byte(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes('\ufeffone\r\n\n two é\t'.encode())
    documents, reading = read(path)
    assert documents == [Document('a.txt', '\ufeffone\r\n\n two é\t')]
    assert reading.text_bytes == path.stat().st_size


@pytest.mark.parametrize('unit', ['blank_line', 'line'])
def test_documents_within_a_file_account_for_every_byte(tmp_path, unit: str):
    path = tmp_path / 'a.txt'
    path.write_bytes(b'\n\none\ntwo\r\n \nthree\n\n\nfour')
    documents, reading = read(path, documents=unit)
    expected = {
        'blank_line': [('a.txt:3', 'one\ntwo'), ('a.txt:6', 'three'), ('a.txt:9', 'four')],
        'line': [('a.txt:3', 'one'), ('a.txt:4', 'two'), ('a.txt:6', 'three'), ('a.txt:9', 'four')],
    }
    assert documents == [Document(*pair) for pair in expected[unit]]
    kept = sum(len(d.text.encode()) for d in documents)
    blank = reading.dropped['empty'] if unit == 'line' else 0
    assert reading.text_bytes == path.stat().st_size
    assert kept + reading.separator_bytes + (1 if unit == 'line' else 0) == reading.text_bytes
    assert reading.documents == len(documents) + blank


def test_directory_is_read_in_order_and_binary_files_are_counted(tmp_path):
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'x.txt').write_text('later')
    (tmp_path / 'a.txt').write_text('first')
    (tmp_path / 'empty.txt').write_text('')
    (tmp_path / 'image.bin').write_bytes(b'\x89PNG\0\1')
    (tmp_path / '.hidden').write_text('not seen')
    documents, reading = read(tmp_path)
    assert documents == [Document('a.txt', 'first'), Document('b/x.txt', 'later')]
    assert reading.dropped == {'empty': 1, 'binary file': 1}
    assert [d.name for d in read(f'{tmp_path}/*/*.txt')[0]] == ['b/x.txt']


def test_names_do_not_depend_on_the_place(tmp_path):
    for place in ('here', 'there'):
        (tmp_path / place).mkdir()
        (tmp_path / place / 'a.txt').write_text('text')
    assert read(tmp_path / 'here') == read(tmp_path / 'there')
    prints = {
        open_source(DataConfig(source=str(tmp_path / p))).fingerprint() for p in ('here', 'there')
    }
    assert len(prints) == 1


def test_jsonl_packed_or_not(tmp_path):
    lines = ''.join(
        json.dumps({'text': t, 'id': 1}) + '\n' for t in ('one', '', 'two\u2028x')
    ).encode()
    (tmp_path / 'a.jsonl').write_bytes(lines)
    (tmp_path / 'b.jsonl.gz').write_bytes(gzip.compress(lines))
    (tmp_path / 'c.jsonl.zst').write_bytes(
        zstandard.compress(lines[:30]) + zstandard.compress(lines[30:])
    )
    for name in ('a.jsonl', 'b.jsonl.gz', 'c.jsonl.zst'):
        documents, reading = read(tmp_path / name)
        assert documents == [Document(f'{name}:1', 'one'), Document(f'{name}:3', 'two\u2028x')]
        assert reading.dropped == {'empty': 1}


def test_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / 'a.parquet'
    pyarrow.parquet.write_table(pyarrow.table({'body': ['one', None, 'two'], 'n': [1, 2, 3]}), path)
    documents, reading = read(path, text_field='body')
    assert documents == [Document('a.parquet:1', 'one'), Document('a.parquet:3', 'two')]
    assert reading.dropped == {'empty': 1}
    assert re.search(r'data.text_field=text: .*no such field.*\(fields: body, n\)', error(path))
    assert 'holds int64 there, not text' in error(path, text_field='n')


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.txt', b'abc\0def', r'data.source=.*a.txt: binary, not text \(a NUL byte at byte 3\)'),
        ('a.txt', b'ok\ncaf\xe9', r'a.txt: not UTF-8 \(0xe9 at byte 6\); .*iconv'),
        ('a.jsonl', b'{"text": "x"}\nnope\n', r'a.jsonl:2: not JSON'),
        ('a.jsonl', b'[1]\n', r'a.jsonl:1: not a JSON object but list'),
        (
            'a.jsonl',
            b'{"txt": "x", "b": 1}',
            r'data.text_field=text: .*did you mean txt.*fields: txt, b',
        ),
        ('a.jsonl', b'{"text": 3}', r'data.text_field=text: .*holds int there'),
        ('a.jsonl', b'{"text": "\\ud800"}', r'unpaired surrogate \\ud800'),
        ('a.parquet', b'no parquet', r'a.parquet: not a parquet file'),
        ('a.txt.gz', gzip.compress(b'some text' * 50, mtime=0)[:-12], r'a.txt.gz: cannot be read'),
        ('a.txt.gz', b'no gzip', r'a.txt.gz: cannot be read: Not a gzipped file'),
        ('a.txt.zst', zstandard.compress(b'some text' * 50)[:-3], r'zst: cannot be read: .*within'),
        ('a.txt.zst', b'no zstandard', r'a.txt.zst: cannot be read'),
    ],
)
def test_bad_files_are_one_line(tmp_path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    assert re.search(message, error(tmp_path / name))


def test_missing_places_are_one_line(tmp_path):
    assert re.search(r'data.source=.*/no.txt: no such file', error(tmp_path / 'no.txt'))
    assert 'did you mean stdlib' in error('stdlibb')
    assert 'matches no file' in error(tmp_path / '*.txt')
    assert 'a directory without files' in error(tmp_path)
    (tmp_path / 'a.bin').write_bytes(b'\0')
    assert 'no readable text files' in error(tmp_path)


def test_standard_library_is_english_without_tests():
    documents, reading = read('stdlib')
    names = [d.name for d in documents]
    assert len(names) == len(set(names)) > 300
    assert {'json/decoder.py', 'pydoc_data/topics/if'} <= set(names)
    assert not any(re.match(r'(test|idlelib|lib2to3|encodings|site-packages)/', n) for n in names)
    assert 'Implementation of JSONDecoder' in dict(documents)['json/decoder.py']
    assert 'def decode' not in dict(documents)['json/decoder.py']
    assert reading.documents == len(documents) + reading.dropped['empty']


def test_standard_library_code():
    documents = dict(read('stdlib_code')[0])
    assert 'def decode' in documents['json/decoder.py']
    assert not any(re.match(r'(test|idlelib|lib2to3|encodings)/', name) for name in documents)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        (
            'tfds:tiny_shakespear',
            'TFDS has no dataset tiny_shakespear; did you mean tiny_shakespeare',
        ),
        ('tfds:qqqqqq', 'TFDS has no dataset qqqqqq; see'),
        ('tfds:imdb_reviews/plain', 'has no config plain; did you mean plain_text'),
    ],
)
def test_unknown_tfds_names(source: str, message: str):
    assert message in error(source)


@pytest.mark.parametrize('source', ['tfds:tiny_shakespeare', 'tfds:xquad/en'])
def test_tfds_without_tensorflow_names_the_extra(monkeypatch, tmp_path, source: str):
    pytest.importorskip('tensorflow_datasets')
    monkeypatch.setattr('lm.data.tfds_source.find_spec', lambda name: None)
    monkeypatch.setattr('tensorflow_datasets.core.constants.DATA_DIR', str(tmp_path), raising=False)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    message = error(source)
    assert "pip install 'lm-lab[tfds]'" in message or 'no such field' in message


def put_below(address: str, folder) -> None:
    for path in folder.rglob('*'):
        if path.is_file():
            put(f'{address}/{path.relative_to(folder).as_posix()}', path.read_bytes())


@pytest.mark.parametrize('scheme', ['memory', 's3'])
def test_text_in_a_store_is_that_on_a_disk(tmp_path, s3, scheme: str):
    folder = tmp_path / 'texts'
    (folder / 'more').mkdir(parents=True)
    record = json.dumps({'text': 'one\n\ntwo'}).encode() + b'\n'
    (folder / 'a.jsonl.gz').write_bytes(gzip.compress(record * 3))
    (folder / 'more' / 'b.jsonl.zst').write_bytes(zstandard.ZstdCompressor().compress(record))
    (folder / 'more' / 'c.txt').write_bytes(b'three')
    (folder / '.hidden.txt').write_bytes(b'not seen')
    (folder / 'image.bin').write_bytes(b'\x89PNG\0\1')
    pyarrow.parquet.write_table(pyarrow.table({'text': ['four', 'five']}), folder / 'd.parquet')
    address = f'{scheme}://bucket/{scheme}/texts'
    put_below(address, folder)
    for place in ('', '/', '/more', '/a.jsonl.gz', '/*.jsonl.gz', '/*/*', '/**/*.jsonl.*'):
        here, there = (
            open_source(DataConfig(source=f'{root}{place}')) for root in (folder, address)
        )
        assert there.fingerprint() == here.fingerprint(), place
        assert read(f'{address}{place}') == read(f'{folder}{place}')


def test_text_that_is_not_in_a_store_is_told():
    put('memory://mine/texts/cut.txt.gz', gzip.compress(b'one two three')[:-9])
    assert 'memory://mine/text: no such object or folder; check' in error('memory://mine/text')
    assert 'matches no file; check the glob' in error('memory://mine/texts/*.jsonl')
    assert 'memory://mine/texts/cut.txt.gz: cannot be read' in error('memory://mine/texts/')
    put('memory://alone/x.txt', b'one')
    assert read('memory://alone') == read('memory://alone/')
    assert 's3n://b/x: no such kind of store; did you mean s3://?' in error('s3n://b/x')
