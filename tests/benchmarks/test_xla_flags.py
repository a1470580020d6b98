"""The comparison of XLA's flags as a command."""

import json
import subprocess
import sys

from benchmarks.xla_flags import ROOT

TINY = [
    '--config=llama_tiny', '--config.model.num_layers=1', '--config.model.d_model=32',
    '--config.model.vocab_size=512', '--config.train.batch_size=2', '--config.train.seq_len=16',
    '--config.mesh.devices=1', '--rounds=1', '--steps=1',
]  # fmt: skip


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'benchmarks.xla_flags', *TINY, *words],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_each_set_beside_none() -> None:
    flags = '--xla_cpu_enable_fast_math=false --xla_cpu_multi_thread_eigen=false'
    ran = command(f'--sets={flags}')
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    none, ours = (found['sets'][name] for name in ('', flags))
    assert none['ratio'] == 1 and none['spread'] == [1.0]
    assert ours['ratio'] == ours['tokens_per_second'] / none['tokens_per_second']
    assert none['compile_seconds'] > 0
    assert flags in ran.stderr and 'none' in ran.stderr


def test_mistakes() -> None:
    for words, told in (
        ([], '--sets: give one or more flags'),
        (['--sets=--xla_of_no_xla=1'], 'xla_of_no_xla'),
    ):
        ran = command(*words)
        assert ran.returncode == 2 and told in ran.stderr and ran.stderr.count('\n') == 1
