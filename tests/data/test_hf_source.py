"""`hf:` sources on folders in the hub's layout and on an imitation of the hub, with no network."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm.config import DataConfig
from lm.data import hub_stream
from lm.data.hub_stream import HubStream, stream_name
from lm.data.mixture import prepare_mixture
from lm.data.prepare import prepare
from lm.data.sources import Document, Reading, open_source
from lm.errors import UserError
from tests.data.corpora import words
from tests.training.runs import Runs

datasets = pytest.importorskip('datasets', reason='the extra hf is not installed')

FILES, TEXTS = 6, 20  # texts of each file
KILLED_AT = 97  # within the fifth file

READ = """
import os, signal, sys
from lm.config import DataConfig
from lm.data import hub_stream, saved_stream
from lm.data.prepare import prepare
saved_stream.COMMIT_BYTES = 1
texts = hub_stream.HubStream.texts
def killed(self):
    for number, text in enumerate(texts(self)):
        if number == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield text
hub_stream.HubStream.texts = killed
prepare(DataConfig(source=sys.argv[1], cache_dir=sys.argv[2], tokenizer='bpe'), None)
"""


def text(number: int) -> str:
    return f'{number} é ' + words(20 + number % 9, seed=number)


@pytest.fixture(scope='module')
def jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 texts in six files, two of them empty."""
    folder = tmp_path_factory.mktemp('jsonl')
    for i in range(FILES):
        lines = [
            json.dumps({'id': n, 'text': None if n in (7, 70) else text(n)}) + '\n'
            for n in range(i * TEXTS, (i + 1) * TEXTS)
        ]
        (folder / f'part{i}.jsonl').write_text(''.join(lines))
    return folder


@pytest.fixture
def drawn(monkeypatch: Any) -> list[str]:
    """Every text that is drawn from a stream from here on."""
    texts: list[str] = []
    inner = HubStream.texts

    def counted(self: HubStream) -> Iterator[str]:
        for one in inner(self):
            texts.append(one)
            yield one

    monkeypatch.setattr(HubStream, 'texts', counted)
    return texts


def settings(folder: Path, **changes: Any) -> DataConfig:
    return DataConfig(**{'tokenizer': 'bpe', 'cache_dir': str(folder)} | changes)


def documents(data: DataConfig) -> list[Document]:
    return [*open_source(data).documents(Reading())]


def stored(folder: Path) -> dict[str, bytes]:
    """The files of the one prepared store, but for those that tell when and where it was made."""
    (store,) = (folder / 'prepared').iterdir()
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob('*')
        if path.is_file() and path.name not in ('manifest.json', 'dataset_info.json')
    }


def test_documents_are_those_of_the_files(jsonl: Path, tmp_path: Path, capsys: Any) -> None:
    data = settings(tmp_path, source=f'hf:{jsonl}', stream_documents=500)
    source, reading = open_source(data), Reading()
    expected = [Document(f'train/{n}', text(n)) for n in range(120) if n not in (7, 70)]
    assert [*source.documents(reading)] == expected
    assert reading.documents == 120 and reading.dropped == {'empty': 2}
    assert source.facts == {
        'source': data.source, 'stream': 'all 120 documents', 'stream_split': 'train',
    }  # fmt: skip
    assert 'ends after 120 documents, fewer than data.stream_documents=500' in (
        capsys.readouterr().err
    )
    lines = settings(tmp_path, source=data.source, documents='line', stream_documents=9)
    assert documents(lines) == [
        Document(f'train/{n}:{k}', line)
        for n in range(9) if n != 7
        for k, line in enumerate(text(n).split('\n'), 1) if line.strip()
    ]  # fmt: skip


def test_a_killed_preparation_goes_on(jsonl: Path, tmp_path: Path, drawn: list[str]) -> None:
    data = settings(tmp_path / 'straight', source=f'hf:{jsonl}')
    straight = prepare(data, None)
    drawn.clear()
    cache = tmp_path / 'killed'
    command = [sys.executable, '-c', READ, data.source, str(cache), str(KILLED_AT)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    # Files that are read through are not read again, but for the first, which tells the columns,
    # and the last of them, which tells where the next begins. These could not be.
    hidden = [jsonl / f'part{i}.jsonl' for i in (1, 2)]
    contents = [path.read_bytes() for path in hidden]
    try:
        for path, content in zip(hidden, contents, strict=True):
            overwrite(path, b'\0' * len(content))
        again = prepare(settings(cache, source=data.source), None)
    finally:
        for path, content in zip(hidden, contents, strict=True):
            overwrite(path, content)
    assert drawn == [text(n) for n in range(KILLED_AT, 120)]
    assert again.fingerprint == straight.fingerprint
    assert again.accounting == straight.accounting
    assert stored(cache) == stored(tmp_path / 'straight')


def overwrite(path: Path, content: bytes) -> None:
    """Other bytes in a file that looks the same from outside."""
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_larger_bound_goes_on_and_a_smaller_one_reads_nothing(
    jsonl: Path, tmp_path: Path, drawn: list[str]
) -> None:
    def fingerprint(cache: str, count: int) -> str:
        data = settings(tmp_path / cache, source=f'hf:{jsonl}', stream_documents=count)
        return open_source(data).fingerprint()

    first, longer = fingerprint('a', 33), fingerprint('a', 90)
    assert len(drawn) == 90 and drawn[33] == text(33)
    assert fingerprint('a', 33) == first != longer and len(drawn) == 90
    assert fingerprint('b', 90) == longer and len(drawn) == 180
    assert fingerprint('b', 33) == first and len(drawn) == 180


def test_parquet_goes_on_from_any_text(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    for i in range(3):
        table = pyarrow.table({'body': [f'{i} {j}' for j in range(7)]})
        parquet.write_table(table, tmp_path / f'{i}.parquet', row_group_size=3)
    name = stream_name(f'hf:{tmp_path}')
    stream = HubStream(name, 'body', None)
    states = [json.loads(json.dumps(stream.state())) for _ in stream.texts()]
    expected = [f'{i} {j}' for i in range(3) for j in range(7)]
    for count, state in enumerate(states, 1):
        assert [*HubStream(name, 'body', state).texts()] == expected[count:]


def test_files_that_changed_are_another_stream(tmp_path: Path) -> None:
    (tmp_path / 'data').mkdir()
    data = settings(tmp_path / 'cache', source=f'hf:{tmp_path / "data"}')
    for word in ('old', 'newer'):
        (tmp_path / 'data' / 'a.jsonl').write_text(json.dumps({'text': word}) + '\n')
        assert documents(data) == [Document('train/0', word)]


def test_a_run_on_a_mixture_with_a_stream(jsonl: Path, tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text(words(3000))
    sources = (f'hf:{jsonl}', str(tmp_path / 'notes.txt'))
    runs = Runs(Path('stdlib'), tmp_path / 'cache')
    mixture = {'data__sources': sources, 'data__stream_documents': 60}
    runs.train('llama', tmp_path / 'run', train__steps=6, **mixture)
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    account = summary['data'][sources[0]]
    assert account['stream'] == 'the first 60 documents'
    assert account['read']['documents'] == 60 and account['dropped'] == {'empty': 1}
    assert np.isfinite(summary['final_loss'])
    # The store of the stream is the one that it would have alone.
    mixed = prepare_mixture(runs.config('llama', **mixture).data, None)
    tokenizer = next((tmp_path / 'cache' / 'tokenizers').iterdir())
    alone = settings(
        tmp_path / 'cache', source=sources[0], stream_documents=60, tokenizer=str(tokenizer)
    )
    assert prepare(alone, None).fingerprint == mixed.parts[0].fingerprint


@pytest.fixture(scope='module')
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two configs, `one` and `two`; the second has two splits, none of them train."""
    folder = tmp_path_factory.mktemp('configs')
    for name in 'abc':
        (folder / f'{name}.jsonl').write_text(
            f'{{"body": "{name}", "n": 1, "s": {{"text": "x"}}}}\n'
        )
    splits = [{'split': 'dev', 'path': 'b.jsonl'}, {'split': 'test', 'path': 'c.jsonl'}]
    card = [
        {'config_name': 'one', 'data_files': 'a.jsonl'},
        {'config_name': 'two', 'data_files': splits},
    ]
    # JSON is YAML too.
    (folder / 'README.md').write_text(f'---\n{json.dumps({"configs": card})}\n---\n')
    return folder


def test_config_and_split(configs: Path, tmp_path: Path) -> None:
    data = settings(tmp_path, source=f'hf:{configs}:two:test', text_field='body')
    assert documents(data) == [Document('test/0', 'c')]


@pytest.mark.parametrize(
    ('words', 'changes', 'message'),
    [
        ('', {}, 'say which config, hf:NAME:CONFIG; one of one, two'),
        (':tvo', {}, 'has no config tvo; did you mean two?'),
        (':two:tst', {}, 'has no split tst; did you mean test?'),
        (':two', {}, 'has no split train; one of dev, test'),
        (':two:test:3', {}, 'must be hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT'),
        (':one', {}, 'data.text_field=text: .* has no such field; .*body'),
        (':one', {'text_field': 'n'}, 'data.text_field=n: .* holds int there, not text'),
        (':one', {'text_field': 's'}, 'data.text_field=s: .* holds dict there, not text'),
    ],
)
def test_what_cannot_be_read(
    configs: Path, tmp_path: Path, words: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        documents(settings(tmp_path, source=f'hf:{configs}{words}', **changes))
    assert '\n' not in str(caught.value)


def test_what_keeps_a_stream_from_going_on(jsonl: Path, tmp_path: Path, monkeypatch: Any) -> None:
    data = settings(tmp_path, source=f'hf:{jsonl}', stream_documents=30)
    more = settings(tmp_path, source=f'hf:{jsonl}', stream_documents=31)
    kept = documents(data)
    with monkeypatch.context() as patch:
        patch.setattr(hub_stream, 'find_spec', lambda name: None)
        with pytest.raises(
            UserError, match=r"needs the datasets package; pip install 'lm-lab\[hf\]'"
        ):
            documents(more)
        assert documents(data) == kept, 'what is kept needs no datasets'
    with monkeypatch.context() as patch:
        patch.setattr(datasets, '__version__', '0.0.1')
        with pytest.raises(UserError, match=r'was begun with datasets .*, and this is 0.0.1'):
            documents(more)
    with monkeypatch.context() as patch:
        broken = itertools.repeat(ConnectionError('no route\nto it'))
        patch.setattr(datasets.IterableDataset, '__iter__', lambda self: map(throw, broken))
        with pytest.raises(UserError, match='broke off .ConnectionError: no route.; 30 documents'):
            documents(more)
    with pytest.raises(UserError, match=r'data.stream_documents=0: must be at least 1'):
        settings(tmp_path, stream_documents=0)


def throw(error: Exception) -> None:
    raise error


def test_a_dataset_of_the_hub_goes_on_at_its_revision(tmp_path: Path) -> None:
    """On an imitation of the hub, whose dataset gets new files between two readings."""
    command = [sys.executable, '-m', 'tests.data.imitated_hub', str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    old = [f'old {number}' for number in range(40)]
    assert found['first'] == old[:12]
    assert found['more'] == old[:25]
    assert found['elsewhere'] == [f'new {number}' for number in range(12)]
    assert found['revisions'] == ['a' * 40, 'a' * 40, 'b' * 40]
    # Of 4 files of 10: the third of the second reading, and never the fourth.
    assert found['opened_first'] == ['0', '1'] and found['opened_more'] == ['0', '1', '2']
    assert "DatasetNotFoundError: Dataset 'own/none' doesn't exist" in found['unknown']
