"""`lm sweep`: an experiment file's settings as flags, and what it says of a mistake."""

from pathlib import Path
from typing import Any

import pytest

from launch import sweep
from launch.main import main
from tests.sweep import grid
from tests.training.runs import write_text


def failure(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(['sweep', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and 'Traceback' not in captured.err
    *told, error = captured.err.strip().splitlines()
    assert len(told) <= 1  # how many runs there are
    return str(error)


def test_the_settings_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['sweep', f'--experiment={grid.__file__}', '--help']) == 0
    assert '--rates=0.001,0.003' in capsys.readouterr().out
    assert main(['sweep', '--experiment=chinchilla', '--help']) == 0
    assert '--budgets=' in capsys.readouterr().out


def test_what_is_to_do_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f'--experiment={grid.__file__}', f'--workdir={tmp_path}', '--source=x.txt']
    assert main(['sweep', *words, '--rates=1e-3,2e-3,4e-3', '--describe']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('  ', 1)[1] for line in lines] == [
        'to do   rate 0.001', 'to do   rate 0.002', 'to do   rate 0.004',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--workdir=w'], '--experiment: missing'),
        (['--experiment=chincilla'], 'no such experiment; did you mean chinchilla?'),
        (['--experiment=none.py'], '--experiment=none.py: no such file'),
        (['--experiment=GRID'], '--workdir: missing'),
        (['--experiment=GRID', '--rate=1'], '--rate: no such flag; did you mean --rates?'),
        (
            ['--experiment=GRID', '--workdir=w', '--slurm=cpus_per_task=2'],
            '--slurm: needs --launcher',
        ),
        (['--experiment=GRID', '--workdir=w', '--launcher=slurm', '--slurm=x'], 'NAME=VALUE'),
        (['--experiment=GRID', '--workdir=w', '--at_once=0'], '--at_once=0'),
        (['--experiment=GRID', '--workdir=w', '--source=none.txt'], 'data.source=none.txt'),
    ],
)
def test_mistakes(
    words: list[str], said: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace('GRID', str(grid.__file__)) for word in words]
    assert said in failure(capsys, *words)


def test_runs_that_did_not_end_are_no_success(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, 'run_here', lambda jobs, at_once, ended: None)
    text = write_text(tmp_path / 'words.txt')
    words = [f'--experiment={grid.__file__}', f'--workdir={tmp_path}/w', f'--source={text}',
             f'--cache={tmp_path}/cache']  # fmt: skip
    assert main(['sweep', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and '2 of 2 runs were ended by a signal' in captured.err


def test_a_file_that_yields_no_configs(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / 'mine.py'
    file.write_text('x = 1\n')
    assert 'defines no configs' in failure(capsys, f'--experiment={file}')
    file.write_text('def configs(): return [1]\n')
    said = failure(capsys, f'--experiment={file}', f'--workdir={tmp_path}/w')
    assert 'is no {name: Config}' in said
