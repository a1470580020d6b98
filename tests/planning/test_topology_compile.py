"""Steps compiled ahead of time for described TPUs and GPUs: what GSPMD makes of them there.

A process of its own compiles each, since libtpu must not be loaded beside the CPU devices of the
other tests. `python -m tests.planning.tpu_cases SEED COUNT` draws other cases.
"""

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.planning.tpu_cases import CASES, Case, activation_share, measured, planned

ROOT = Path(__file__).parent.parent.parent
SIZES = {
    'model.vocab_size': 4096, 'model.num_layers': 4, 'model.d_model': 256, 'model.d_ff': 1024,
    'model.num_heads': 4, 'model.scan_layers': True, 'model.remat': 'full',
    'train.batch_size': 16,
}  # fmt: skip
TPU, GPU = 'v5e:2x4', 'h100:2x4'
pytestmark = pytest.mark.slow


@cache
def found(topology: str) -> dict[str, Any]:
    """`lm plan --compile` of every strategy on eight chips."""
    words = [f'--config.{name}={value}' for name, value in SIZES.items()]
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
    done = subprocess.run(
        [sys.executable, '-m', 'launch', 'plan', '--config=llama_tiny', *words,
         f'--topology={topology}', '--compile', '--json'],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode == 2 and 'not installed' in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 4  # a verdict each, and nothing of the compiler's
    return json.loads(done.stdout)


def test_gradients_are_scattered_where_the_stage_splits_them() -> None:
    for strategy, one in found(TPU).items():
        scatters = [one['collectives'].get(k) for k in ('reduce-scatter', 'all-reduce-scatter')]
        times = sum(scatter['times'] for scatter in scatters if scatter)
        if strategy in ('zero2', 'zero3'):
            assert times == 4 + 1, strategy  # in each layer, and the two tables together
        else:  # zero1 reads parts of whole sums; the compiler may fuse those of the tables
            assert times <= 1, strategy


@pytest.mark.parametrize('topology', [TPU, GPU])
def test_bytes_by_strategy(topology: str) -> None:
    by_strategy = found(topology)
    layers = 4 * (256 * (4 + 4) * 64 + 2 * 256 * 2 * 64 + 3 * 256 * 1024)
    vectors = 9 * 256
    entries = layers + 2 * 4096 * 256 + vectors
    split = entries - vectors
    for strategy, one in by_strategy.items():
        weights = 4 * (split / 8 if strategy == 'zero3' else split)
        moments = 8 * (split if strategy == 'ddp' else split / 8)
        state = weights + moments + 12 * vectors
        batch = 5 * 4 * 2 * 128
        unpadded = one['argument_bytes'] - one['padding_bytes']
        assert unpadded == pytest.approx(state + batch, abs=32)  # counters of steps
        assert one['padding_bytes'] >= 0
        assert one['hbm_bytes_per_chip'] >= one['argument_bytes']


def test_layers_count_as_often_as_the_loops_run() -> None:
    # Gathered forwards, and under remat backwards; the two tables once.
    gathered = found(TPU)['zero3']['collectives']['all-gather']
    assert gathered['times'] == 2 * 4 * 7 + 2
    assert gathered['count'] == 2 * 7 + 2


def test_gpus_gather_and_scatter_a_layer_at_once() -> None:
    layers = 4 * (256 * (4 + 4) * 64 + 2 * 256 * 2 * 64 + 3 * 256 * 1024)
    for strategy in ('zero2', 'zero3'):
        collectives = found(GPU)[strategy]['collectives']
        assert collectives['reduce-scatter']['times'] == 4 + 1
        # Of the layers in bf16, and of a table in fp32; the other's sum is a part of an all-reduce.
        assert collectives['reduce-scatter']['bytes'] == 2 * layers + 4 * 4096 * 256
    gathered = found(GPU)['zero3']['collectives']['all-gather']
    assert gathered['times'] == 2 * 4 + 1
    assert gathered['bytes'] == 2 * 2 * layers + 2 * 4 * 4096 * 256


@pytest.mark.skipif(find_spec('libtpu') is None, reason="no libtpu: pip install 'lm-lab[tpu]'")
@pytest.mark.parametrize('case', CASES, ids=str)
def test_plan_is_within_15_percent(case: Case) -> None:
    found = measured(case)
    print(found)
    assert found.ratio == pytest.approx(1, abs=0.15)


def test_some_cases_are_mostly_activations() -> None:
    shares = [activation_share(planned(case)) for case in CASES]
    assert len(CASES) >= 12 and sum(share > 0.5 for share in shares) >= 4
