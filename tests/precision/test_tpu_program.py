"""What a TPU's compiler makes of the policies' products. A process of its own, as libtpu needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
POLICIES = ('fp32', 'bf16_mixed', 'int8_qat')


@pytest.mark.slow  # compiles three steps for a TPU, with the extra [tpu]
def test_products_on_a_tpu() -> None:
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
    done = subprocess.run(
        [sys.executable, '-m', 'tests.precision.tpu_products', *POLICIES],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if 'which is not installed' in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [*found['fp32']] == ['highest,highest f32'] and found['fp32'][
        'highest,highest f32'
    ] >= 24
    assert [*found['bf16_mixed']] == ['default bf16']
    # A layer's seven products forwards are of int8, with sums in int32.
    assert found['int8_qat']['default s32'] == 7
