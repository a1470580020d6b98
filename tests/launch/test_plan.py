"""`lm plan`: what it prints, that it does without jax, and what it says of a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch.main import main

ROOT = Path(__file__).parent.parent.parent
OF_PARAMS = ['--params=7.5e9', '--devices=64', '--recipe=mixed_adam']
OF_CONFIG = ['--config=llama_7b', '--devices=64', '--device_kind=h100']


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(['plan', *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ''
    return captured.out


def test_json_of_a_number_of_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed([*OF_PARAMS, '--json'], capsys))
    # Rajbhandari et al. 2020, table 1: 120, 31.4, 16.6, 1.88 GB.
    assert {name: each['per_device_bytes'] for name, each in found.items()} == {
        'ddp': 120_000_000_000,
        'zero1': 31_406_250_000,
        'zero2': 16_640_625_000,
        'zero3': 1_875_000_000,
    }


def test_json_of_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OF_CONFIG, '--json', '--config.model.remat=dots', '--config.optim.options.b1=0.8']
    found = json.loads(printed(words, capsys))
    assert list(found) == ['ddp', 'zero1', 'zero2', 'zero3']
    zero3 = found['zero3']
    assert zero3['params'] == 6_738_415_616
    assert zero3['activations_by_remat']['full'] < zero3['activations_by_remat']['dots']
    assert zero3['step_seconds']['bound'] in ('compute', 'memory', 'links')
    assert [len(count['by_group']) for count in zero3['flops_per_step']] == [2, 4]
    assert zero3['fits'] is False and 'change this first' in zero3['advice']
    assert 'activations_bytes' in zero3['estimates']
    assert 'parameters_bytes' not in zero3['estimates']


@pytest.mark.parametrize('words', [OF_PARAMS, OF_CONFIG])
def test_text(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(words, capsys)
    for text in (
        'zero3',
        'GB = 1e9 bytes',
        '= 24 bytes a parameter',
        '1B           4 GB        24 GB        80 GB        40 GB        20 GB',
        '14,000 GB',
        '40,000 GB',
        '31.41',
    ):
        assert text in out
    assert ('does not fit' in out) == (words is OF_CONFIG)
    assert ('~ activations' in out) == (words is OF_CONFIG)
    assert max(map(len, out.splitlines())) < 170


@pytest.mark.parametrize('words', [OF_PARAMS, OF_CONFIG, ['--config=t5v11_base', '--devices=8']])
def test_no_jax(words: list[str]) -> None:
    code = (
        'import sys; from launch.main import main; status = main(sys.argv[1:]); '
        'print([m for m in ("jax", "flax", "optax") if m in sys.modules], file=sys.stderr); '
        'sys.exit(status)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, 'plan', *words, '--json'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == '[]\n'
    json.loads(done.stdout)


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        ([], '--params: missing; give a number of parameters, or --config'),
        (['--params=1e9', '--config=llama_7b'], '--params: give it or --config, not both'),
        (['--params=1e9', '--config.train.seed=1'], '--params: give it or --config, not both'),
        (['--params=-3'], '--params=-3: must be positive'),
        (['--params=0'], '--params=0: must be positive'),
        (['--params=1e9', '--devices=0'], '--devices=0: must be at least 1'),
        (
            ['--params=1e9', '--recipe=mixed_adm'],
            '--recipe=mixed_adm: no such recipe; did you mean mixed_adam?',
        ),
        (
            ['--params=1e9', '--device_kind=h10'],
            '--device_kind=h10: not in the table; one of h100',
        ),
        (
            ['--params=1e9', '--devices=8', '--tensor=3'],
            '--devices=8: not divisible by the axes, which hold 3 (devices=8, tensor=3)',
        ),
        (
            ['--params=1e9', '--devices=8', '--replica=2', '--fsdp=2'],
            '--devices=8: the axes hold 4 (devices=8, replica=2, fsdp=2); make them multiply to '
            'that, or leave fsdp or replica out',
        ),
        (
            ['--params=1e9', '--devices=8', '--fsdp=1'],
            '--fsdp=1: zero1 to zero3 split over fsdp, which has one of 8 devices; make it '
            'larger, or leave it out',
        ),
        (
            ['--params=1e9', '--devices=8', '--seq=2'],
            '--seq=2: rows are not known; give a config',
        ),
        (
            ['--config=llama_7b', '--devices=64', '--tensor=64'],
            '--tensor=64: does not divide model.num_heads=32',
        ),
        (
            ['--config=llama_7b', '--devices=3', '--seq=3'],
            "--seq=3: does not divide the decoder's 2048 positions",
        ),
        (
            ['--config=bert_tiny', '--devices=64'],
            'train.batch_size=32: 32 rows a microbatch do not split evenly over 64 devices '
            '(replica x fsdp); make it a multiple of 64, or use tensor or seq',
        ),
    ],
)
def test_a_users_error_is_one_line_and_status_2(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['plan', *words]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('', f'lm plan: {line}\n')
