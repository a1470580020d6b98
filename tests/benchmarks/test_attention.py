"""The comparison of attention's kernels as a command."""

import json
import subprocess
import sys

import pytest

from benchmarks.xla_flags import ROOT

TINY = ['--rows=1', '--length=256', '--heads=2', '--groups=1', '--width=8', '--rounds=2']


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'benchmarks.attention', *TINY, *words],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_each_kernel_in_turn() -> None:
    pytest.importorskip('torch')
    ran = command('--causal', '--bias')
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    kernels = ['xla', 'blockwise', 'torch']
    assert {name: len(times) for name, times in found['milliseconds'].items()} == dict.fromkeys(
        kernels, 2
    )
    table = [line.split() for line in ran.stderr.splitlines()[-4:]]
    assert [line[0] for line in table] == ['ms', *kernels]
    # At these few rows a whole mask holds several arrays of scores, blocks of queries one.
    assert found['megabytes']['xla'] > found['megabytes']['blockwise'] > 0


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--kernels=flash'], '--kernels=flash: take some of xla, blockwise, cudnn, splash, torch'),
        (['--kernels=splash'], 'mesh.attention=splash: splash attention needs a TPU'),
        (['--segments=2'], '--kernels=torch: only of one segment and float32; leave it out'),
        (['--groups=4'], '--groups=4: must divide --heads=2'),
        (['--dtype=int8'], '--dtype=int8: take one of float32, bfloat16, float16'),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    ran = command(*words)
    assert ran.returncode == 2 and ran.stdout == ''
    assert said in ran.stderr and ran.stderr.count('\n') == 1
