"""`lm evaluate --text`: one JSON object, and one line for what cannot be scored."""

import json
import math
from pathlib import Path

import pytest

from launch.main import main
from tests.generation.tiny import language_model


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lm.training.load.load_run', language_model)


def test_the_score_is_one_json_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'text.txt'
    file.write_text('the cat sat on the mat.' * 5)
    assert main(['evaluate', '--workdir=llama', f'--text={file}', '--batch_size=3']) == 0
    score = json.loads(capfd.readouterr().out)
    assert {'loss', 'bits_per_byte', 'tokens'} <= set(score)
    assert score['tokens'] == 115
    # A letter is a token and a byte.
    assert score['bits_per_byte'] == pytest.approx(score['loss'] / math.log(2))
    assert main(['evaluate', '--workdir=llama', f'--text={file}', '--nojson']) == 0
    assert capfd.readouterr().out.startswith('loss ')


@pytest.mark.parametrize(
    ('workdir', 'content', 'words', 'line'),
    [
        ('llama', None, [], 'text.txt: cannot be read (No such file or directory)'),
        ('llama', b'', [], 'text.txt: is empty'),
        ('llama', b'ab\xff', [], 'text.txt: byte 2 is not UTF-8'),
        ('llama', b'ab', ['--batch_size=0'], '--batch_size=0: must be at least 1'),
        ('bert', b'ab', [], '--text: bert was trained by objective.name=mlm, which asks for'),
        ('t5', b'ab', [], 't5 was trained by objective.name=span_corruption, which asks for'),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    workdir: str,
    content: bytes | None,
    words: list[str],
    line: str,
) -> None:
    file = tmp_path / 'text.txt'
    if content is not None:
        file.write_bytes(content)
    assert main(['evaluate', f'--workdir={workdir}', f'--text={file}', *words]) == 2
    captured = capfd.readouterr()
    assert captured.out == ''
    assert line in captured.err
    assert captured.err.count('\n') == 1
