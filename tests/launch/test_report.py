"""`lm report`: the page is written and named; a mistake is one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.main import main
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from tests.generation.tiny import language_model
from tests.report.folders import add_line, write_run


def test_samples_of_the_models_and_why_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {'llama': language_model('llama'), 'bert': language_model('bert')}

    def load(place: str) -> LanguageModel:
        if (name := Path(place).name) not in models:
            raise UserError('workdir: has no checkpoint yet')
        return models[name]

    monkeypatch.setattr('lm.training.load.load_run', load)
    paths = [str(write_run(tmp_path / name)) for name in ('llama', 'bert', 'none')]
    out = tmp_path / 'page.html'
    words = ['--prompt=the cat', '--max_new_tokens=3']
    assert main(['report', paths[0], words[0], *paths[1:], words[1], f'--out={out}']) == 0
    assert capsys.readouterr().out == f'{out}\n'
    text = out.read_text()
    said = [part.partition('</pre>')[0] for part in text.split('<pre>')[1:]]
    assert [len(part) for part in said[:2]] == [len('<b>the cat</b>') + n for n in (3, 1)]
    assert all(part.startswith('<b>the cat</b>') for part in said[:2])
    assert said[2] == 'none: workdir: has no checkpoint yet'


def _plain(path: Path) -> None:
    path.mkdir()


def _sweep(path: Path) -> None:
    path.mkdir()
    (path / 'runs.jsonl').touch()


def _with(line: object) -> Callable[[Path], None]:
    return lambda path: add_line(write_run(path, losses=[5.0, 4.0]), line)


@pytest.mark.parametrize(
    ('make', 'words', 'line'),
    [
        (None, [], 'WORKDIR: missing; give the folders of one or more runs'),
        (None, ['{}'], 'WORKDIR {}: does not exist'),
        (_plain, ['{}'], 'WORKDIR {}: holds no run (no config.json)'),
        (_sweep, ['{}'], 'WORKDIR {}: holds no run (no config.json); give those inside it: {}/run'),
        (write_run, ['{}', '{}/'], 'WORKDIR {}: is given twice'),
        (_with('{"step": 3'), ['{}'], '{}/metrics.jsonl: line 3 is not JSON; mend or remove it'),
        (_with([3]), ['{}'], '{}/metrics.jsonl: line 3 is no JSON object; mend or remove it'),
        (_with({'step': 1}), ['{}'], '{}/metrics.jsonl: line 3 is no row of a step after 2'),
        (
            _with({'step': 3, 'loss': 'low'}),
            ['{}'],
            "{}/metrics.jsonl: line 3: loss='low' is no number",
        ),
        (write_run, ['{}', '--out={}'], '--out={}: must end in .html or .htm'),
        (write_run, ['{}', '--out={}/no/r.html'], '--out={}/no/r.html: there is no folder {}/no'),
        (write_run, ['{}', '--out={}/' + 'r' * 300 + '.html'], 'cannot be written (File name'),
        (write_run, ['{}', '--max_new_tokens=0'], '--max_new_tokens=0: must be at least 1'),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object] | None,
    words: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / 'run'
    if make is not None:
        make(run)
    assert main(['report', *(word.format(run) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('lm report: ')
    assert line.replace('{}', str(run)) in captured.err
    assert captured.err.count('\n') == 1
    assert not (tmp_path / 'report.html').exists()
