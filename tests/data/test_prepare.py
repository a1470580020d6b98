import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lm.config import DataConfig
from lm.data import manifest
from lm.data.prepare import Prepared, prepare
from lm.data.prepared_text import RECORD_TOKENS
from lm.errors import UserError
from tests.data.corpora import corpus, words


def settings(folder: Path, **changes) -> DataConfig:
    return DataConfig(**{'tokenizer': 'bpe', 'cache_dir': str(folder / 'cache')} | changes)


@pytest.fixture
def several(tmp_path) -> DataConfig:
    for i in range(12):
        (tmp_path / f'{i}.txt').write_text(f'{i} ' + words(50 + 400 * i, seed=i))
    return settings(tmp_path, source=f'{tmp_path}/*.txt')


def folder_of(data: DataConfig) -> Path:
    (folder,) = (Path(data.cache_dir) / 'prepared').iterdir()
    return folder


def test_store_holds_the_text_of_both_sides(several):
    prepared = prepare(several, 450)
    root = Path(several.source).parent
    names = []
    for store in (prepared.train, prepared.validation):
        assert store.tokens == store.lengths.sum()
        assert store.text_bytes == sum(
            len(prepared.tokenizer.decode(store.read(d, 0, n)).encode())
            for d, n in enumerate(store.lengths)
        )
        for document, length in enumerate(store.lengths):
            names.append(store.name(document))
            text = (root / names[-1]).read_text()
            tokens = store.read(document, 0, length)
            assert tokens.dtype == np.int32
            np.testing.assert_array_equal(tokens, prepared.tokenizer.encode(text))
    assert sorted(names) == sorted(path.name for path in root.glob('*.txt'))
    assert prepared.accounting['read']['documents'] == 12
    assert prepared.accounting['dropped'] == {}


def test_any_stretch_of_a_long_document_can_be_read(tmp_path):
    (tmp_path / 'a.txt').write_text(words(20_000))
    store = prepare(settings(tmp_path, source=str(tmp_path / 'a.txt')), None).train
    length = int(store.lengths[0])
    assert store.num_records == -(-length // RECORD_TOKENS) == len(store._records) > 2
    whole = store.read(0, 0, length)
    for start, stop in [
        (0, 1),
        (2047, 2049),
        (2048, 4096),
        (100, 6000),
        (length - 1, length),
        (5, 5),
    ]:
        np.testing.assert_array_equal(store.read(0, start, stop), whole[start:stop])


def test_a_single_document_is_split_at_nine_tenths_of_its_bytes(tmp_path):
    path = corpus('general/tinyshakespeare.txt')
    prepared = prepare(settings(tmp_path, source=str(path)), None)
    raw = path.read_bytes()
    cut = int(0.9 * len(raw))
    assert prepared.train.text_bytes == cut
    assert prepared.validation.text_bytes == len(raw) - cut
    held_out = prepared.validation.read(0, 0, prepared.validation.lengths[0])
    assert prepared.tokenizer.decode(held_out).encode() == raw[cut:]


def test_tokenizer_learns_from_the_training_part_only(tmp_path):
    (tmp_path / 'a.txt').write_text(words(5000) + 'QZQZ' * 500)
    tokenizer = prepare(settings(tmp_path, source=str(tmp_path / 'a.txt')), None).tokenizer
    assert not any('Q' in piece for piece in tokenizer.pieces(range(tokenizer.vocabulary.size)))


def test_the_second_time_comes_from_the_cache(several, monkeypatch, capsys):
    first = prepare(several, None)
    assert capsys.readouterr().err.count('\n') == 1
    monkeypatch.setattr('lm.data.prepare._build', None)
    second = prepare(several, None)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('', '')
    assert second.fingerprint == first.fingerprint
    assert second.accounting == first.accounting


def test_content_and_settings_decide_the_fingerprint(several):
    prints = {prepare(several, None).fingerprint, prepare(several, 450).fingerprint}
    path = Path(several.source).parent / '3.txt'
    path.write_text(path.read_text() + '!')
    prints.add(prepare(several, None).fingerprint)
    assert len(prints) == 3


def equal(a: Prepared, b: Prepared) -> bool:
    return a.fingerprint == b.fingerprint and all(
        np.array_equal(x.read(d, 0, n), y.read(d, 0, n))
        for x, y in ((a.train, b.train), (a.validation, b.validation))
        for d, n in enumerate(x.lengths)
    )


@pytest.mark.parametrize('name', ['train.array_record', 'train.lengths.npy', 'tokenizer.model'])
def test_a_flipped_byte_is_noticed_and_made_anew(several, capsys, name: str):
    before = prepare(several, None)
    (path,) = (p for p in folder_of(several).rglob('*') if name in p.name.replace('lm_text-', ''))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    capsys.readouterr()
    after = prepare(several, None)
    assert re.fullmatch(
        r'lm: prepared text .* is broken \(.* has changed\).*\n', capsys.readouterr().err
    )
    assert equal(before, after)
    assert manifest.flaw(folder_of(several)) is None


def test_a_half_written_one_is_made_anew(several, capsys):
    before = prepare(several, None)
    folder = folder_of(several)
    (folder / 'manifest.json').unlink()
    assert 'no readable manifest' in (prepare(several, None), capsys.readouterr().err)[1]
    (folder / 'accounting.json').unlink()
    after = prepare(several, None)
    assert 'accounting.json is missing' in capsys.readouterr().err
    assert equal(before, after)


def test_what_a_killed_process_left_is_removed(several):
    import socket

    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()
    left = Path(several.cache_dir) / 'prepared' / f'.building-{socket.gethostname()}-{dead.pid}-x'
    left.mkdir(parents=True)
    prepare(several, None)
    assert not left.exists()


PREPARE = """
import sys
from lm.config import DataConfig
from lm.data.prepare import prepare
data = DataConfig(source=sys.argv[1], tokenizer='bpe', cache_dir=sys.argv[2])
print(prepare(data, None).fingerprint)
"""


def test_two_processes_at_once_both_succeed(several):
    command = [sys.executable, '-c', PREPARE, several.source, several.cache_dir]
    ran = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    prints = {process.communicate()[0].strip() for process in ran}
    assert [process.returncode for process in ran] == [0, 0]
    assert prints == {prepare(several, None).fingerprint}
    assert folder_of(several).is_dir()


def test_a_full_disk_is_one_line_and_leaves_nothing(several):
    limit = 'import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n'
    command = [sys.executable, '-c', limit + PREPARE, several.source, several.cache_dir]
    ran = subprocess.run(command, capture_output=True, text=True)
    last = ran.stderr.splitlines()[-1]
    assert re.search(r'UserError: data.cache_dir=.*: cannot be written: File too large; free', last)
    assert list((Path(several.cache_dir) / 'prepared').iterdir()) == []


@pytest.mark.skipif(not Path('/proc').exists(), reason='needs /proc, which no one can write to')
def test_a_place_that_cannot_be_written_is_one_line(several):
    data = DataConfig(source=several.source, cache_dir='/proc/lm')
    with pytest.raises(UserError, match=r'^data.cache_dir=/proc/lm: cannot be written'):
        prepare(data, None)


def test_vocabulary_and_tokenizer_errors(several):
    with pytest.raises(UserError, match=r'model.vocab_size=90000: larger .* works is \d+'):
        prepare(several, 90_000)
    root = Path(several.source).parent
    with pytest.raises(UserError, match=r'data.tokenizer=unigarm: no such .* mean unigram'):
        prepare(settings(root, source=several.source, tokenizer='unigarm'), None)
    model = root / 'own.model'
    prepare(several, None).tokenizer.save(model)
    given = settings(root, source=several.source, tokenizer=str(model))
    own = prepare(given, None).tokenizer.vocabulary.size
    with pytest.raises(UserError, match=rf'model.vocab_size=400: the tokenizer .* has {own} ids'):
        prepare(given, 400)
    assert prepare(given, own + 100).tokenizer.vocabulary.size == own


def test_one_prepared_text_serves_models_with_more_and_with_fewer_special_ids(several):
    root = Path(several.source).parent
    model = corpus('tokenizers/sentencepiece_test_model_1k.model')
    given = settings(root, source=several.source, tokenizer=str(model))
    prepared = {rows: prepare(given, rows) for rows in (None, 1000, 1002)}
    assert len({p.fingerprint for p in prepared.values()}) == 1
    assert len(list((Path(given.cache_dir) / 'prepared').iterdir())) == 1
    sizes = [p.tokenizer.vocabulary.size for p in prepared.values()]
    assert sizes == [p.accounting['tokenizer']['ids'] for p in prepared.values()]
    assert sizes == [1000 + 2 + 100 + 3, 1000, 1002]
    few = prepared[1000].tokenizer.vocabulary
    assert (few.pad_id, few.mask_id, few.sentinel_ids, few.mode_ids) == (2, None, (), ())
    assert prepared[1002].tokenizer.vocabulary.mask_id == 1001


def test_prepared_text_is_a_tfds_dataset(several):
    import tensorflow_datasets as tfds

    prepared = prepare(several, None)
    builder = tfds.builder_from_directory(folder_of(several) / 'lm_text' / '1.0.0')
    record = builder.as_data_source(split='train')[0]
    np.testing.assert_array_equal(
        record['tokens'], prepared.train.read(0, 0, len(record['tokens']))
    )
    assert 'tensorflow' not in sys.modules


@pytest.mark.parametrize('kind', ['unigram', 'bpe', 'char', 'word'])
def test_a_size_found_and_the_same_size_asked_for_are_one_text(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'text.txt'
    lines = [f'the {i} quick brown foxes {i * i} jump' for i in range(20_000)]
    # A rare character early and late: a smaller sample of the text would miss it.
    lines[7] += ' \u00e9'
    lines[15_001] += ' \u03c0'
    path.write_text('\n'.join(lines))
    data = DataConfig(source=str(path), tokenizer=kind, cache_dir=str(tmp_path / 'cache'))
    found = prepare(data, None)
    asked = prepare(data, found.tokenizer.vocabulary.size)
    assert asked.tokenizer.sha256 == found.tokenizer.sha256
    assert asked.fingerprint == found.fingerprint
