"""What a device emulates, by policy."""

import pytest

from lm.attention.kernel import Chip
from lm.precision.native import emulations
from lm.precision.policy import POLICIES

CPU, H100, A100, V100 = Chip('cpu'), Chip('gpu', 9.0), Chip('gpu', 8.0), Chip('gpu', 7.0)
TPU = Chip('tpu')
NATIVE = {
    'cpu': (CPU, 'cpu', {'fp32'}),
    'h100': (H100, 'NVIDIA H100 80GB HBM3', {*POLICIES}),
    'a100': (A100, 'NVIDIA A100-SXM4-80GB', {*POLICIES} - {'fp8'}),
    'v100': (V100, 'Tesla V100-SXM2-16GB', {'fp32', 'fp16_mixed'}),
    'v5e': (TPU, 'TPU v5 lite', {*POLICIES} - {'fp8', 'fp16_mixed', 'tf32'}),
    'ironwood': (TPU, 'TPU7x', {*POLICIES} - {'fp16_mixed', 'tf32'}),
}
"""Policies that nothing emulates."""


@pytest.mark.parametrize('name', NATIVE)
def test_which_policies_are_native(name: str) -> None:
    chip, kind, native = NATIVE[name]
    found = {policy for policy, it in POLICIES.items() if not emulations(it, chip, kind)}
    assert found == native


def test_words() -> None:
    assert emulations(POLICIES['fp8'], A100, 'NVIDIA A100') == [
        'float8_e4m3fn and float8_e5m2 products are emulated on this gpu: in the program, but '
        'widened before they are multiplied; precision.policy=bf16_mixed has none'
    ]
    # What --strict tells is the first: that of the formats that the policy is named for.
    assert 'float8_e4m3fn' in emulations(POLICIES['fp8'], CPU, 'cpu')[0]
    assert emulations(POLICIES['tf32'], CPU, 'cpu') == [
        'there is no TF32 on this cpu: products are fp32 multiplies'
    ]
    assert 'several bf16 passes' in emulations(POLICIES['tf32'], TPU, 'TPU v4')[0]
    assert emulations(POLICIES['bf16_mixed'], CPU, 'cpu') == [
        'bfloat16 is emulated on this cpu; precision.policy=fp32 is its native format'
    ]
