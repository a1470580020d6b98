"""The experiment on strategies, small: its table says what the strategies promise."""

import json
from pathlib import Path

import pytest

from experiments import zero_memory
from lm.errors import UserError
from tests.training.runs import CONFIG


def test_the_table_of_strategies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        zero_memory,
        'STRATEGIES',
        {
            name: zero_memory.STRATEGIES[name]
            for name in ('ddp', 'zero2', 'offload', 'zero3 explicit')
        },
    )
    words = [f'--config={CONFIG}:llama', '--steps=3', f'--plot={tmp_path}/a.png']
    monkeypatch.setattr('sys.argv', ['zero_memory', *words])
    assert zero_memory.main() == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows['ddp']['state_bytes_per_param'] == pytest.approx(12, rel=0.01)
    assert rows['zero2']['state_bytes_per_param'] == pytest.approx(5, rel=0.02)
    assert rows['zero3 explicit']['state_bytes_per_param'] == pytest.approx(1.5, rel=0.06)
    assert rows['offload']['state_bytes_per_param'] == pytest.approx(0.5, rel=0.1)
    assert rows['offload']['host_bytes_per_param'] == pytest.approx(1, rel=0.1)
    assert rows['ddp']['moved_per_param_in_all'] == pytest.approx(2, rel=0.05)
    for row in rows.values():
        assert row['largest_gap'] < 1e-4 and row['step_seconds'] > 0
    assert (tmp_path / 'a.png').stat().st_size > 1000


def test_devices_that_the_strategies_cannot_share() -> None:
    with pytest.raises(UserError, match='devices=3: give an even number'):
        zero_memory.configs('llama_tiny', 3, 1)
