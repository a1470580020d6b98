"""What a run was trained on, read again, and what is told where it cannot be."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import lm
from launch.main import main
from lm.config import Config
from lm.training.trained_text import run_overlap, training_texts
from lm.training.workdir import Workdir, write_json
from tests.data.corpora import words
from tests.generation.tiny import language_model


def configured(source: Path, **data: Any) -> Config:
    config = lm.load_config('quickstart')
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, source=str(source), **data)
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / 'text'
    folder.mkdir()
    for i in range(30):
        (folder / f'{i}.txt').write_text(words(60, seed=i))
    return folder


@pytest.fixture
def run(text: Path, tmp_path: Path) -> Path:
    """What a run that has begun leaves, without the training."""
    folder = Workdir(tmp_path / 'run')
    folder.create()
    folder.write_config(configured(text))
    return folder.path


def test_it_is_the_training_side_of_every_source(text: Path, tmp_path: Path) -> None:
    trained = set(training_texts(configured(text)))
    documents = {path.read_text() for path in text.iterdir()}
    held_out = documents - trained
    assert trained < documents
    assert 1 <= len(held_out) < 15
    other = tmp_path / 'other.txt'
    other.write_text('w' * 90 + 'v' * 10)
    names = (str(text), str(other))
    mixed = configured(Path('stdlib'), sources=names)
    assert set(training_texts(mixed)) == trained | {'w' * 90}


def test_training_text_is_dirty_and_what_was_held_out_is_not(run: Path, text: Path) -> None:
    config = configured(text)
    trained = list(training_texts(config))
    held_out = sorted({path.read_text() for path in text.iterdir()} - set(trained))
    told = run_overlap(run, trained)
    assert told['overlap']['dirty'] == told['overlap']['texts'] == len(trained)
    assert told['overlap']['covered_words'] == 1
    assert run_overlap(run, held_out)['overlap']['dirty'] == 0
    [unchecked] = told['overlap_not_compared']
    assert 'no summary.json' in unchecked


def test_text_that_moved_or_changed_gives_a_reason(run: Path, text: Path) -> None:
    folder = Workdir(run)
    write_json(folder.summary_file, {'data': {str(text): {'source_sha256': 'of another text'}}})
    told = run_overlap(run, ['a'])
    assert told['overlap'] is None
    assert told['overlap_unknown'] == f'data.source={text}: holds other text than the run read'
    text.rename(text.parent / 'moved')
    told = run_overlap(run, ['a'])
    assert told['overlap'] is None
    assert 'no such file or directory' in told['overlap_unknown']
    assert 'holds no run' in run_overlap(text, ['a'])['overlap_unknown']
    write_json(folder.conversion_file, {})
    assert 'holds a converted model' in run_overlap(run, ['a'])['overlap_unknown']


def test_what_a_branch_began_with_is_told(run: Path) -> None:
    folder = Workdir(run)
    write_json(folder.summary_file, {})
    folder.add_history(0, {'fork_from': (None, 'runs/first@20')})
    told = run_overlap(run, ['a'])
    assert told['overlap_not_compared'] == ['what runs/first@20 was trained on before (fork_from)']


def test_evaluate_tells_it(
    run: Path, text: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('lm.training.load.load_run', lambda path: language_model('llama'))
    monkeypatch.setattr('lm.training.load.load_foreign', lambda path: language_model('llama'))
    file = text / '0.txt'
    file.write_text('the cat sat on the mat. ' * 5)
    asked = ['evaluate', f'--text={file}']

    def told(*words: str) -> Any:
        assert main([*asked, *words]) == 0
        return json.loads(capfd.readouterr().out)

    assert told(f'--workdir={run}')['overlap']['n'] == 13
    assert 'overlap' not in told(f'--workdir={run}', '--nooverlap')
    foreign = told('--hf=model')
    assert foreign['overlap'] is None
    assert foreign['overlap_unknown'].endswith('give --training_text')
    assert told('--hf=model', f'--training_text={file}')['overlap']['covered_words'] == 1
    for mistake, line in (
        (['--training_text=nowhere'], '--training_text=nowhere: no such file or directory'),
        (['--training_text=a', '--nooverlap'], '--training_text=a: not with --nooverlap'),
    ):
        assert main([*asked, f'--workdir={run}', *mistake]) == 2
        captured = capfd.readouterr()
        assert captured.out == ''
        assert captured.err.count('\n') == 1
        assert line in captured.err
