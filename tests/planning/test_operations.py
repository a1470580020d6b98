"""What the operations of compiled programs compute and move, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from lm.planning.devices import bandwidth
from lm.planning.operations import operations

CUBLAS = """
HloModule jit_step, is_scheduled=true

%fused (p0: bf16[64,8], p1: bf16[8,32]) -> bf16[64,32] {
  %p0 = bf16[64,8]{1,0} parameter(0)
  %p1 = bf16[8,32]{1,0} parameter(1)
  ROOT %d = bf16[64,32]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (a: bf16[4,64,128], b: bf16[4,128,32]) -> bf16[4,64,32] {
  %a = bf16[4,64,128]{2,1,0} parameter(0)
  %b = bf16[4,128,32]{2,1,0} parameter(1)
  %x = bf16[64,8]{1,0} constant({...})
  %y = bf16[8,32]{1,0} constant({...})
  %f = bf16[64,32]{1,0} fusion(%x, %y), kind=kOutput, calls=%fused, metadata={op_name="jit(step)/f"}
  %c = (bf16[4,64,32]{2,1,0}, s8[100]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", \
metadata={op_name="jit(step)/bij"}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":\
{"lhs_batch_dimensions":["0"],"lhs_contracting_dimensions":["2"],"rhs_contracting_dimensions":["1"]}}}
  ROOT %g = bf16[4,64,32]{2,1,0} get-tuple-element(%c), index=0
}
"""


def test_products_of_cublas_and_in_fusions() -> None:
    found = operations(CUBLAS)
    assert set(found) == {'c', 'f'}
    assert found['c'].flops == 2 * 4 * 64 * 32 * 128
    assert found['c'].bytes == 2 * 4 * (64 * 128 + 128 * 32 + 64 * 32) + 100
    assert found['c'].source == 'jit(step)/bij'
    assert found['f'].flops == 2 * 64 * 8 * 32
    assert found['f'].bytes == 2 * (64 * 8 + 8 * 32 + 64 * 32)


def test_all_products_of_a_program_compiled_here() -> None:
    def function(a, b, c):
        return jnp.einsum('bij,bjk->bik', jnp.tanh(a), b) @ c

    shapes = ((3, 64, 128), (3, 128, 32), (32, 16))
    compiled = jax.jit(function).lower(*map(jnp.ones, shapes)).compile()
    found = operations(compiled.as_text())
    want = 2 * 3 * 64 * 128 * 32 + 2 * 3 * 64 * 32 * 16
    assert sum(operation.flops for operation in found.values()) == want


@pytest.mark.parametrize(
    'kind, rate',
    [
        ('NVIDIA H100 80GB HBM3', 3350e9),
        ('NVIDIA A100-SXM4-40GB', 1555e9),
        ('NVIDIA A100-SXM4-80GB', 2039e9),
        ('TPU v5 lite', 819e9),
        ('TPU v4', 1200e9),
        ('cpu', None),
    ],
)
def test_bandwidth_by_the_name_that_jax_tells(kind: str, rate: float | None) -> None:
    assert bandwidth(kind) == rate
