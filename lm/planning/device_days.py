"""Compute as days of a device, at its dense 16-bit peak and a model FLOPs utilisation. No jax."""

import re
from dataclasses import dataclass

from lm.errors import UserError, did_you_mean
from lm.planning.devices import PEAKS

DAY = 86_400
"""Seconds."""

SOLD_AS = {
    'v100': ('V100', 1), 'a100': ('A100', 1), 'h100': ('H100', 1), 'h100-pcie': ('H100 PCIe', 1),
    'h100-nvl': ('H100 NVL', 1), 'h200': ('H200', 1), 'h200-nvl': ('H200 NVL', 1),
    'b200': ('B200', 1), 'gb200': ('GB200', 1), 'b300': ('B300', 1), 'v2': ('TPU v2', 2),
    'v3': ('TPU v3', 2), 'v4': ('TPU v4', 1), 'v5e': ('TPU v5e', 1), 'v5p': ('TPU v5p', 1),
    'v6e': ('TPU v6e', 1), 'v7x': ('TPU7x', 2),
}  # fmt: skip
"""GPUs and TPU chips: the key in `PEAKS`, and how many of its JAX devices one is."""


@dataclass(frozen=True)
class Accelerator:
    """A GPU or a TPU chip.

    Attributes:
      name: of `SOLD_AS`.
      dtype: what `peak` multiplies: `bfloat16`, or `float16` where there is no bfloat16 (V100).
      peak: dense FLOP/s.
    """

    name: str
    dtype: str
    peak: float

    def days(self, flops: float, mfu: float) -> float:
        """Days that one of it takes.

        Args:
          flops: of the model, nothing recomputed.
          mfu: share of the peak that the model's FLOPs come to (Chowdhery et al. 2022, appendix B).
        """
        require_mfu(mfu)
        return flops / (self.peak * mfu) / DAY

    def flops(self, device_hours: float, mfu: float) -> float:
        """What one of it computes in so many hours: the inverse of `days`."""
        require_mfu(mfu)
        return device_hours * 3600 * self.peak * mfu


def require_mfu(mfu: float) -> None:
    """Refuses what is no share of a peak.

    Raises:
      UserError: `mfu` is not in (0, 1].
    """
    if not 0 < mfu <= 1:
        raise UserError(f'mfu={mfu:g}: must be above 0 and at most 1, such as 0.4')


def find_accelerator(name: str) -> Accelerator:
    """The accelerator of that name; case, `TPU`, `NVIDIA`, a size of memory and marks are ignored.

    Raises:
      UserError: it is not in the table.
    """
    wanted = _plain(re.sub(r'[-_ ]\d+ ?gb$', '', name.lower()))
    for known in SOLD_AS:
        if _plain(known) == wanted:
            return accelerator(known)
    hint = did_you_mean(name.lower(), [*SOLD_AS])
    raise UserError(f'device={name}: not in the table{hint}')


def accelerator(name: str) -> Accelerator:
    """The accelerator of a key of `SOLD_AS`."""
    key, jax_devices = SOLD_AS[name]
    dtype = 'bfloat16' if 'bfloat16' in PEAKS[key] else 'float16'
    return Accelerator(name, dtype, PEAKS[key][dtype] * jax_devices)


def _plain(name: str) -> str:
    return re.sub(r'tpu|nvidia|[^a-z0-9]', '', name)
