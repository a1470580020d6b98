"""Peak arithmetic rates of devices, for MFU. Dense rates: sparsity doubles what few can use."""

import re

import jax.numpy as jnp
from jax.typing import DTypeLike

PF_DAY = 8.64e19
"""FLOP in one petaFLOP/s-day."""

PEAKS: dict[str, dict[str, float]] = {
    # NVIDIA V100 datasheet, SXM2: tensor cores take fp16, not bf16.
    'V100': {'float16': 125e12, 'float32': 15.7e12},
    # NVIDIA A100 datasheet, all variants.
    'A100': {'bfloat16': 312e12, 'float16': 312e12, 'float32': 19.5e12},
    # NVIDIA H100 datasheet: PCIe and NVL differ from SXM. Printed with sparsity; halved here.
    'H100 PCIe': {'bfloat16': 756e12, 'float16': 756e12, 'float32': 51e12},
    'H100 NVL': {'bfloat16': 835e12, 'float16': 835e12, 'float32': 60e12},
    'H100': {'bfloat16': 989e12, 'float16': 989e12, 'float32': 67e12},
    # NVIDIA H200 datasheet, SXM; NVL apart.
    'H200 NVL': {'bfloat16': 835e12, 'float16': 835e12, 'float32': 60e12},
    'H200': {'bfloat16': 989e12, 'float16': 989e12, 'float32': 67e12},
    # NVIDIA HGX B200 datasheet: an eighth of the board's, without sparsity.
    'B200': {'bfloat16': 2250e12, 'float16': 2250e12, 'float32': 75e12},
    # Google Cloud TPU system pages; a JAX device of v2 and v3 is one of the chip's two cores.
    # No fp32 entry: the matrix unit multiplies bf16, and fp32 is several passes.
    'TPU v2': {'bfloat16': 45e12 / 2},
    'TPU v3': {'bfloat16': 123e12 / 2},
    'TPU v4': {'bfloat16': 275e12},
    'TPU v5 lite': {'bfloat16': 197e12},
    'TPU v5e': {'bfloat16': 197e12},
    'TPU v5p': {'bfloat16': 459e12},
    'TPU v5': {'bfloat16': 459e12},
    'TPU v6 lite': {'bfloat16': 918e12},
    'TPU v6e': {'bfloat16': 918e12},
}
"""FLOP/s by device and dtype of the operands; of two names that fit the earlier holds."""


def peak_flops(device_kind: str, dtype: DTypeLike) -> float | None:
    """The dense peak in FLOP/s of one JAX device, None where it is not known (a CPU, say).

    Args:
      device_kind: as `jax.Device.device_kind` says it, e.g. `NVIDIA H100 80GB HBM3`.
      dtype: of a matrix product's operands; float32 means fp32 multiplies, not TF32.
    """
    for name, rates in PEAKS.items():
        if re.search(rf'\b{name}\b', device_kind):
            return rates.get(jnp.dtype(dtype).name)
    return None
