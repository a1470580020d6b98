"""What compilers of devices that are not there make of the policies' products."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
# Compiles steps for other devices, with the extras [tpu] and [cuda13].
pytestmark = pytest.mark.slow


def products(topology: str, *policies: str, flags: str = '') -> dict[str, Any]:
    """In a process of its own: libtpu must not be loaded beside the CPU devices of other tests."""
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}
    done = subprocess.run(
        [sys.executable, '-m', 'tests.precision.compiled_products', topology, *policies],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if 'which is not installed' in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_on_a_tpu() -> None:
    found = products('v5e:2x2', 'fp32', 'bf16_mixed', 'int8_qat')
    assert all(kind.startswith('highest,highest') for kind in found['fp32'])
    assert all(kind.endswith('f32') for kind in found['fp32']) and sum(found['fp32'].values()) > 24
    assert all(kind.startswith('default') and kind.endswith('bf16') for kind in found['bf16_mixed'])
    # A layer's seven products forwards are of int8, with sums in int32.
    assert sum(n for kind, n in found['int8_qat'].items() if kind.endswith('-> s32')) == 7


def test_on_an_h100() -> None:
    found = products('h100:1x1', 'fp8', 'int8_qat')
    kinds = {kind for kind in found['fp8'] if 'f8' in kind}
    assert {'f8e4m3fn x f8e4m3fn', 'f8e5m2 x f8e4m3fn', 'f8e4m3fn x f8e5m2'} == {
        kind.split(' ', 1)[1].split(' -> ')[0] for kind in kinds
    }
    assert any('s8 x s8 -> s32' in kind for kind in found['int8_qat'])


def test_an_h100s_library_multiplies_in_fp8() -> None:
    """Where no kernel of XLA's own is taken, cuBLAS's of fp8 is: nothing is widened before."""
    found = products('h100:1x1', 'fp8', flags='--xla_gpu_enable_triton_gemm=false')
    assert found['fp8']['__cublas$lt$matmul$f8'] >= 15
