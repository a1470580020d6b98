"""Devices: peak arithmetic rates, for MFU and plans; memory and links, for plans. No jax.

Dense rates: sparsity doubles what few can use.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lm.attention.kernel import Chip
from lm.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from jax.typing import DTypeLike
else:
    DTypeLike = Any

PF_DAY = 8.64e19
"""FLOP in one petaFLOP/s-day."""


def tensor_cores(rate: float) -> dict[str, float]:
    """Peaks of tensor cores by their rate in 16 bits: in TF32 half of it, by the datasheets."""
    return {'bfloat16': rate, 'float16': rate, 'tensorfloat32': rate / 2}


PEAKS: dict[str, dict[str, float]] = {
    # NVIDIA V100 datasheet, SXM2: tensor cores take fp16, not bf16.
    'V100': {'float16': 125e12, 'float32': 15.7e12},
    # NVIDIA A100 datasheet, all variants.
    'A100': {**tensor_cores(312e12), 'float32': 19.5e12},
    # NVIDIA H100 datasheet: PCIe and NVL differ from SXM. Printed with sparsity; halved here.
    'H100 PCIe': {**tensor_cores(756e12), 'float32': 51e12},
    'H100 NVL': {**tensor_cores(835e12), 'float32': 60e12},
    'H100': {**tensor_cores(989e12), 'float32': 67e12},
    # NVIDIA H200 datasheet, SXM; NVL apart.
    'H200 NVL': {**tensor_cores(835e12), 'float32': 60e12},
    'H200': {**tensor_cores(989e12), 'float32': 67e12},
    # NVIDIA HGX B200 datasheet: an eighth of the board's, without sparsity.
    'B200': {**tensor_cores(2250e12), 'float32': 75e12},
    # NVIDIA GB200 NVL72 datasheet: a 72nd of the rack's 180 PFLOP/s dense; HGX B300 datasheet: an
    # eighth of the board's 18.
    'GB200': {**tensor_cores(2500e12), 'float32': 80e12},
    'B300': {**tensor_cores(2250e12), 'float32': 75e12},
    # Google Cloud TPU system pages; a JAX device of v2, v3 and TPU7x (Ironwood) is one of the
    # chip's two cores.
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
    'TPU7x': {'bfloat16': 2307e12 / 2},
}
"""FLOP/s by device and dtype of the operands; of two names that fit the earlier holds."""


def peak_flops(device_kind: str, dtype: DTypeLike) -> float | None:
    """The dense peak in FLOP/s of one JAX device, None where it is not known (a CPU, say).

    Args:
      device_kind: as `jax.Device.device_kind` says it, e.g. `NVIDIA H100 80GB HBM3`.
      dtype: of a matrix product's operands; float32 means fp32 multiplies, and TF32 is
        `tensorfloat32`.
    """
    for name, rates in PEAKS.items():
        if re.search(rf'\b{name}\b', device_kind):
            # numpy knows bfloat16's type, but its name only once jax is imported.
            return rates.get(dtype if isinstance(dtype, str) else np.dtype(dtype).name)
    return None


CAPABILITIES = {'V100': 7.0, 'A100': 8.0, 'H100': 9.0, 'H200': 9.0, 'B200': 10.0}
"""Compute capability of GPUs, by key in `PEAKS`; NVIDIA's CUDA programming guide."""


@dataclass(frozen=True)
class Device:
    """A device that a plan can be made for.

    Attributes:
      name: as `--device_kind` takes it.
      peaks: its key in `PEAKS`.
      memory: bytes as the source prints them, GB taken for 1e9 (a driver may report a few
        percent more).
      bandwidth: bytes/s between the device and its memory.
      link: bytes/s that a device sends to its neighbours, all links in one direction together:
        NVLink within a host, ICI within a pod.
      network: bytes/s that a device sends to another host; of a TPU, whose pod is one, its ICI.
      host: devices of a host.
      source: where memory and links are printed; `PEAKS` names those of the rates.
    """

    name: str
    peaks: str
    memory: float
    bandwidth: float
    link: float
    network: float
    host: int
    source: str

    @property
    def chip(self) -> Chip:
        """What a choice of kernels asks of it."""
        capability = CAPABILITIES.get(self.peaks)
        return Chip('tpu' if capability is None else 'gpu', capability)

    def peak(self, dtype: str) -> float:
        """FLOP/s of matrix products of a dtype, `tensorfloat32` too; a V100's 16 bit are fp16.

        Where the source prints no fp32 rate (TPUs) it is taken as a sixth of bf16's: fp32
        products are six bf16 passes there (`matmul_precision=highest`), `tensorfloat32` three.
        """
        rates = PEAKS[self.peaks]
        half = rates.get('bfloat16', rates.get('float16', 0.0))
        if dtype == 'float32':
            return rates.get(dtype, half / 6)
        if dtype == 'tensorfloat32':
            return rates.get(dtype, rates.get('float32', half / 3))
        return half


DEVICES = {
    device.name: device
    for device in (
        Device(
            'v100', 'V100', 32e9, 900e9, 150e9, 6.25e9, 8,
            'NVIDIA V100 datasheet (SXM2, 32 GB); DGX-1: 4 x 100 Gb/s InfiniBand for 8 GPUs',
        ),
        Device(
            'a100-40gb', 'A100', 40e9, 1555e9, 300e9, 25e9, 8,
            'NVIDIA A100 datasheet (SXM, 40 GB); DGX A100: 200 Gb/s InfiniBand a GPU',
        ),
        Device(
            'a100-80gb', 'A100', 80e9, 2039e9, 300e9, 25e9, 8,
            'NVIDIA A100 datasheet (SXM, 80 GB); DGX A100: 200 Gb/s InfiniBand a GPU',
        ),
        Device(
            'h100', 'H100', 80e9, 3350e9, 450e9, 50e9, 8,
            'NVIDIA H100 datasheet (SXM); DGX H100: 400 Gb/s InfiniBand a GPU',
        ),
        Device(
            'h200', 'H200', 141e9, 4800e9, 450e9, 50e9, 8,
            'NVIDIA H200 datasheet (SXM); DGX H200: 400 Gb/s InfiniBand a GPU',
        ),
        Device(
            'b200', 'B200', 180e9, 8000e9, 900e9, 50e9, 8,
            'NVIDIA DGX B200 datasheet, an eighth of the system; 400 Gb/s InfiniBand a GPU',
        ),
        Device(
            'v4', 'TPU v4', 32 * 2**30, 1200e9, 300e9, 300e9, 4,
            'Google Cloud TPU v4 page (32 GiB); Jouppi et al. 2023, table 4 (6 x 50 GB/s links)',
        ),
        Device(
            'v5e', 'TPU v5e', 16e9, 819e9, 200e9, 200e9, 4,
            'Google Cloud TPU v5e page (ICI 400 GB/s a chip, both directions)',
        ),
        Device(
            'v5p', 'TPU v5p', 95e9, 2765e9, 600e9, 600e9, 4,
            'Google Cloud TPU v5p page (ICI 1200 GB/s a chip, both directions)',
        ),
        Device(
            'v6e', 'TPU v6e', 32e9, 1638e9, 400e9, 400e9, 4,
            'Google Cloud TPU v6e page (ICI 800 GB/s a chip, both directions)',
        ),
    )
}  # fmt: skip


def bandwidth(device_kind: str) -> float | None:
    """Bytes/s between a JAX device and its memory, None where it is not known.

    Args:
      device_kind: as `jax.Device.device_kind` says it; of two sizes of a device, `A100-SXM4-40GB`
        say, the one that it names.
    """
    kind = device_kind.replace(' lite', 'e')
    fits = [x for x in DEVICES.values() if re.search(rf'\b{x.peaks}\b', kind)]
    named = [x for x in fits if f'{x.memory / 1e9:.0f}GB' in kind]
    return next((x.bandwidth for x in [*named, *fits]), None)


def find_device(kind: str) -> Device:
    """The device of that kind; case, `TPU`, `NVIDIA` and what is no letter or digit are ignored.

    Raises:
      UserError: it is not in the table.
    """
    wanted = _plain(kind)
    for name, device in DEVICES.items():
        if _plain(name) == wanted:
            return device
    begin = [name for name in DEVICES if wanted and _plain(name).startswith(wanted)]
    hint = f'; one of {", ".join(begin)}' if begin else did_you_mean(kind.lower(), [*DEVICES])
    raise UserError(f'device_kind={kind}: not in the table{hint}')


def _plain(kind: str) -> str:
    return re.sub(r'tpu|nvidia|[^a-z0-9]', '', kind.lower())
