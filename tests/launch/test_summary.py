"""`lm summary`: a table of what is known."""

import json
from pathlib import Path

import pytest

from launch.main import main


def test_what_is_unknown_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = {'params': 1234567, 'mfu': None, 'eval_loss': 2.34567, 'device': 'cpu', 'other': 3}
    (tmp_path / 'summary.json').write_text(json.dumps(summary))
    assert main(['summary', f'--workdir={tmp_path}']) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ['params', '1,234,567'],
        ['eval_loss', '2.346 nats per target token'],
        ['device', 'cpu'],
    ]
