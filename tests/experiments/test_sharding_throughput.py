"""The experiment on sharding and throughput: cells by hand, what must hold, and small runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import sharding_throughput as experiment
from lm.planning.devices import DEVICES
from tests.training.runs import CONFIG

A100 = DEVICES['a100-80gb']
NORMS = 2048 * (24 * (2 + 3) + 2)
"""Of the model of 2.28B: two in an encoder layer, three in a decoder layer, one after each."""

VECTORS = NORMS + 2 * 32 * 32
PARAMS = 2 * 32_128 * 2048 + 24 * (3 * 4 * 2048 * 32 * 64 + 2 * 3 * 2048 * 3200) + VECTORS


@pytest.fixture(scope='module')
def found() -> list[dict[str, Any]]:
    return list(experiment.cells((8, 64, 512), A100, rows=8))


def line(found: list[dict[str, Any]], **of: Any) -> list[dict[str, Any]]:
    cells = [cell for cell in found if all(cell[name] == value for name, value in of.items())]
    assert cells
    return cells


def test_the_models_have_the_papers_sizes() -> None:
    about = experiment.counts(8)
    assert about['2.28B']['params'] == PARAMS
    for name, (target, _) in experiment.SIZES.items():
        assert about[name]['params'] == pytest.approx(target, rel=0.01)
        assert about[name]['tokens_a_row'] == 512 + 114


def test_a_cell_by_hand(found: list[dict[str, Any]]) -> None:
    ddp, zero3, hybrid = (
        line(found, size='2.28B', remat='none', devices=64, strategy=name)[0]
        for name in ('ddp', 'zero3', 'hybrid')
    )
    # fp32 parameters and two of AdamW; of zero3 only the vectors are whole.
    assert ddp['state_bytes_per_device'] == 12 * PARAMS
    assert zero3['state_bytes_per_device'] == 12 * ((PARAMS - VECTORS) / 64 + VECTORS)
    assert hybrid['state_bytes_per_device'] == 12 * ((PARAMS - VECTORS) / 8 + VECTORS)
    # An all-reduce of bf16 gradients over 8 hosts, of which each device fetches an eighth.
    links = 2 * 2 * PARAMS * 7 / 8 / 8 / 25e9
    assert ddp['seconds']['links'] == pytest.approx(links)
    # Arithmetic is what takes longest: the upper bound is the printed peak.
    assert ddp['bound'] == 'compute' and ddp['tflops_upper'] == pytest.approx(312)
    in_turn = sum(ddp['seconds'].values()) / ddp['seconds']['compute']
    assert ddp['tflops_lower'] == pytest.approx(312 / in_turn)


def test_what_fits(found: list[dict[str, Any]]) -> None:
    for cell in line(found, size='11.3B', strategy='ddp'):
        assert not cell['fits'] and cell['largest_rows'] == 0 and cell['tflops_upper'] is None
        assert cell['state_bytes_per_device'] > 80e9
    for size in ('611M', '2.28B'):
        assert all(cell['fits'] for cell in line(found, size=size))
    for strategy in ('zero3', 'hybrid'):
        cells = line(found, size='11.3B', remat='full', strategy=strategy)
        assert [cell['fits'] for cell in cells] == [True] * 3


def test_what_is_monotone(found: list[dict[str, Any]]) -> None:
    for size in experiment.SIZES:
        for remat in experiment.REMATS:
            for count in (8, 64, 512):
                cells = line(found, size=size, remat=remat, devices=count)
                held = {cell['strategy']: cell['bytes_per_device'] for cell in cells}
                stages = [held[name] for name in ('ddp', 'zero1', 'zero2', 'zero3')]
                assert stages == sorted(stages, reverse=True)
                assert held['hybrid'] >= held['zero3']
            for strategy in experiment.STRATEGIES:
                cells = line(found, size=size, remat=remat, strategy=strategy)
                bytes_held = [cell['bytes_per_device'] for cell in cells]
                rows = [cell['largest_rows'] for cell in cells]
                assert bytes_held == sorted(bytes_held, reverse=True) and rows == sorted(rows)
    for cell in found:
        assert cell['fits'] == (cell['largest_rows'] >= 8)
        if cell['fits']:
            assert 0 < cell['tflops_lower'] < cell['tflops_upper'] <= 312 * 1.0001


@pytest.mark.slow  # plans sixty cells, then trains: most of a minute
def test_all_of_it_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, 'MEASURED_DEVICES', (1, 8))
    words = [
        '--devices=8,16', '--steps=2', f'--config={CONFIG}:t5', '--measured_rows=1',
        '--vocab_size=128', f'--plot={tmp_path}/a.svg',
    ]  # fmt: skip
    monkeypatch.setattr('sys.argv', ['sharding_throughput', *words])
    assert experiment.main() == 0
    output = capsys.readouterr()
    told = json.loads(output.out)
    assert len(told['cells']) == 2 * 3 * 2 * 5
    assert told['scaling']['full 11.3B ddp']['fits_on'] == []
    assert told['scaling']['full 11.3B zero3']['fits_on'] == [8, 16]
    assert set(told['measured']) == {'1', '8'}
    assert list(told['measured']['1']) == ['ddp', 'zero3']
    for rows in told['measured'].values():
        assert rows['ddp']['seconds_over_ddp'] == 1
        for row in rows.values():
            assert row['step_seconds'] > 0 and row['tokens_per_second_per_device'] > 0
            assert row['last_loss'] == pytest.approx(rows['ddp']['last_loss'], rel=1e-4)
    assert 'largest rows that fit' in output.err and 'over ddp' in output.err
    assert '11.3B' in (tmp_path / 'a.svg').read_text()


@pytest.mark.parametrize(
    ('flag', 'says'),
    [
        ('--rows=0', 'rows=0: must be at least 1'),
        ('--devices=12', 'devices=12: the hybrid splits within hosts of 8; give multiples of 8'),
        ('--devices=8,x', '--devices=8,x: must be'),
        ('--steps=1', 'steps=1: give 0, or at least 2'),
        ('--measured_rows=0', 'measured_rows=0: must be at least 1'),
        ('--device_kind=a100', 'device_kind=a100: not in the table'),
        ('--plot=nowhere/a.png', 'plot=nowhere/a.png: give a FILE.png or FILE.svg in a folder'),
        ('--plot=a.txt', 'plot=a.txt: give a FILE.png or FILE.svg in a folder'),
        ('--config=t5_tny', 'did you mean'),
        ('--row=4', '--row: no such flag; did you mean --rows?'),
    ],
)
def test_a_mistake_is_one_line(
    flag: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('sys.argv', ['sharding_throughput', flag])
    assert experiment.main() == 2
    output = capsys.readouterr()
    assert output.err.startswith('experiments.sharding_throughput: ') and says in output.err
    assert output.err.count('\n') == 1 and output.out == ''
