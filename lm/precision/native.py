"""Which number formats a device multiplies itself, and which its compiler emulates. No jax."""

from lm.attention.kernel import Chip
from lm.precision.policy import E4M3, E5M2, FP16, INT8, TF32, Policy

ADA, AMPERE, TURING = 8.9, 8.0, 7.5
"""Compute capabilities of the first NVIDIA GPUs with products in fp8, bf16 and tf32, and int8; the
CUDA C++ programming guide, "Compute capabilities"."""

FP8_TPUS = ('TPU v7', 'TPU7x')
"""TPUs whose matrix unit takes fp8, by what `jax.Device.device_kind` begins with."""


def emulations(policy: Policy, chip: Chip, device_kind: str) -> list[str]:
    """What a policy computes in formats that a device has not, each in words; `--strict` refuses.

    Args:
      policy: of a run.
      chip: of its devices.
      device_kind: of its devices, as JAX says it.
    """
    found = []
    if policy.peak == TF32 and (chip.capability or 0) < AMPERE:
        how = 'several bf16 passes' if chip.platform == 'tpu' else 'fp32 multiplies'
        found.append(f'there is no TF32 on this {chip.platform}: products are {how}')
    how_8 = policy.quantization
    formats = [how_8.inputs, how_8.gradients] if how_8 is not None else []
    foreign = [f for f in formats if f and not _is_native(f, chip, device_kind)]
    if foreign:
        found.append(
            f'{" and ".join(foreign)} products are emulated on this {chip.platform}: in the '
            'program, but widened before they are multiplied; precision.policy=bf16_mixed has none'
        )
    if not _is_native(policy.compute_dtype, chip, device_kind):
        found.append(
            f'{policy.compute_dtype} is emulated on this {chip.platform}; '
            'precision.policy=fp32 is its native format'
        )
    return found


def _is_native(dtype: str, chip: Chip, device_kind: str) -> bool:
    if dtype == 'float32':
        return True
    if chip.platform == 'tpu':
        if dtype in (E4M3, E5M2):
            return device_kind.startswith(FP8_TPUS)
        return dtype != FP16
    if chip.platform == 'cpu':
        # XLA multiplies int8 as int8 there; bf16 and fp16 it widens but in products of some CPUs.
        return dtype == INT8
    if chip.capability is None:  # no NVIDIA; AMD's fp8 of the MI300 are other formats
        return dtype not in (E4M3, E5M2)
    needed = {E4M3: ADA, E5M2: ADA, INT8: TURING, 'bfloat16': AMPERE, FP16: 0.0}
    return chip.capability >= needed[dtype]
