"""Which kernel computes attention where."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lm.fields import require

Name: TypeAlias = Literal['xla', 'cudnn']
Asked: TypeAlias = Literal['auto', 'xla', 'cudnn']


@dataclass(frozen=True)
class Kernel:
    """A kernel, and what is known of the rows it gets.

    Attributes:
      name: as in `mesh.attention`.
      segments: no row has more segments, padding counted as one; None: nobody knows, or more
        than pay.
      reason: why it is not the device's own, or empty.
    """

    name: Name = 'xla'
    segments: int | None = None
    reason: str = ''

    @property
    def words(self) -> str:
        """For the banner and summary.json."""
        if self.name != 'cudnn':
            return self.name + (f' ({self.reason})' if self.reason else '')
        if self.segments is None:
            return 'cudnn, with a mask'
        if self.segments == 1:
            return 'cudnn, a row a segment'
        return f'cudnn, rows of up to {self.segments} segments'


def worth_telling(segments: int, length: int) -> int | None:
    """The segments a row of `length` tokens that packed rows are laid out for, or None.

    cuDNN sets out for as many in every row as the fullest has. One H100 was faster so than with a
    mask up to about 30 in 1024 tokens and 80 in 2048 (docs/LOG.md).
    """
    return segments if segments <= max(1, length // 32) else None


def choose(asked: Asked, device: Any, dtype: DTypeLike, head_width: int) -> Kernel:
    """The kernel for heads of that width in that dtype, the device's own where it has one.

    Raises:
      UserError: one is asked for by name that does not serve.
    """
    if asked == 'xla':
        return Kernel(reason='asked for')
    reason = _no_cudnn(device, jnp.dtype(dtype), head_width)
    if asked == 'cudnn':
        require(not reason, f'mesh.attention=cudnn: {reason}; set it to auto')
    if device.platform == 'cpu':
        return Kernel()
    return Kernel(reason=reason) if reason else Kernel('cudnn')


def _no_cudnn(device: Any, dtype: np.dtype, head_width: int) -> str:
    """Why cuDNN does not serve, or empty."""
    # A described device, one to compile for, has no client: cuDNN plans on the device itself.
    client = getattr(device, 'client', None)
    if device.platform != 'gpu' or 'cuda' not in getattr(client, 'platform_version', ''):
        return 'cuDNN needs an NVIDIA GPU'
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f'cuDNN computes in bf16 and fp16, not in {dtype.name}'
    widest = 256 if float(device.compute_capability) >= 9 else 128
    if head_width % 8 or head_width > widest:
        return f'cuDNN takes heads of a multiple of 8 up to {widest} wide, not of {head_width}'
    return ''
