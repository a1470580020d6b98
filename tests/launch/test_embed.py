"""`lm embed`: a vector a line, in the lines' order."""

import json
from pathlib import Path

import numpy as np
import pytest

from launch.main import main
from lm.inspection.vectors import text_vectors
from tests.generation.tiny import language_model

LINES = 'the cat\na\r\nbb.'


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr('lm.training.load.load_run', language_model)
    return tmp_path


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('t.txt', LINES + '\n', []),
        ('t.jsonl', '{"b": "the cat"}\n{"b": "a"}\n{"b": "bb."}', ['--text_field=b']),
    ],
)
def test_a_row_a_line(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, content: str, words: list[str]
) -> None:
    (folder / name).write_text(content, newline='')
    files = [f'--text={folder / name}', f'--out={folder / "v.npy"}']
    assert main(['embed', '--workdir=bert', *files, '--normalize', *words]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == {'texts': 3, 'width': 16, 'truncated': 0}
    want = text_vectors(language_model('bert'), ['the cat', 'a', 'bb.'], normalize=True)
    np.testing.assert_allclose(np.load(folder / 'v.npy'), want.vectors_ND, atol=1e-6)


def test_cut_texts_are_told_of(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / 't').write_text('a' * 30 + '\nb')
    files = [f'--text={folder / "t"}', f'--out={folder / "v.npy"}']
    assert main(['embed', '--workdir=bert', *files, '--truncate']) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)['truncated'] == 1
    assert said.err == 'lm embed: 1 of 2 texts were cut to the context\n'


@pytest.mark.parametrize(
    ('name', 'content', 'words', 'line'),
    [
        ('t', b'a\n\nb', [], '{t}: line 2: is empty; give a text'),
        ('t', b'a\n' + b'b' * 20, [], '{t}: line 2: 22 tokens with its special ones, the context'),
        ('t', b'a\xff', [], '{t}: byte 1 is not UTF-8; convert it (iconv)'),
        ('t', b'', [], '{t}: is empty'),
        ('t.jsonl', b'{"text": "a"}\n{"text"', [], '{t}: line 2 is no JSON ('),
        ('t.jsonl', b'{"text": 1}', [], "{t}: line 1 has no text in the field 'text'"),
        ('t', b'a', ['--batch_size=0'], '--batch_size=0: must be at least 1'),
        ('t', b'a', ['--out=v.txt'], '--out=v.txt: must end in .npy'),
        ('t', b'a', ['--out=none/v.npy'], '--out=none/v.npy: there is no folder none'),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, words: list[str],
    line: str,
) -> None:  # fmt: skip
    (folder / name).write_bytes(content)
    files = [f'--text={folder / name}', f'--out={folder / "v.npy"}']
    assert main(['embed', '--workdir=bert', *files, *words]) == 2
    said = capfd.readouterr()
    want = line.replace('{t}', f'--text={folder / name}')
    assert said.out == '' and said.err.startswith(f'lm embed: {want}')
    assert said.err.count('\n') == 1 and not (folder / 'v.npy').exists()
