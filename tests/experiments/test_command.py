"""What the command lines of all experiments have in common."""

import importlib
import sys
from pathlib import Path

import pytest

import experiments

NAMES = sorted(
    path.stem
    for path in Path(experiments.__file__).parent.glob('*.py')
    if not path.stem.startswith('_')
)


@pytest.mark.parametrize('name', NAMES)
def test_help_and_a_mistake(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f'experiments.{name}')
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    assert module.main() == 0
    told = capsys.readouterr().out
    assert f'Command: python -m experiments.{name}' in told and '\n  --' in told
    monkeypatch.setattr(sys, 'argv', [name, '--nosuch=1'])
    assert module.main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f'experiments.{name}: --nosuch: no such flag') and said.count('\n') == 1
