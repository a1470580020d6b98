"""Which kernel computes attention where. Imports no jax: a plan asks the same rule."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lm.fields import require

Name: TypeAlias = Literal['xla', 'blockwise', 'cudnn', 'splash']
Asked: TypeAlias = Literal['auto', 'xla', 'blockwise', 'cudnn', 'splash']

KEEPS = 'attention'
"""Name of what a kernel gives and of its softmax's statistics, for policies of remat; cuDNN's are
known by their operation."""

LANES = 128
"""What splash attention cuts rows into multiples of: the width of a TPU's registers."""

BLOCK = 128
"""Queries whose scores blockwise attention holds at once."""


@dataclass(frozen=True)
class Chip:
    """What the rule asks of a device.

    Attributes:
      platform: as JAX says it: `cpu`, `gpu` or `tpu`.
      capability: compute capability of an NVIDIA GPU that is there; None: it is none.
    """

    platform: str
    capability: float | None = None


@dataclass(frozen=True)
class Use:
    """Attention as a model's layers use it; all that kernels differ in.

    Attributes:
      name: `encoder`, `decoder` or `cross-attention`.
      length: positions of a row.
      crosses: keys are not of the queries' own row.
      bias: something is added to the scores.
      prefix: later keys are seen although causal.
      window: of the keys that are seen, where not all are; `by layer`: it differs among layers.
    """

    name: str
    length: int
    crosses: bool = False
    bias: bool = False
    prefix: bool = False
    window: Literal['none', 'causal', 'both ways', 'by layer'] = 'none'


@dataclass(frozen=True)
class Kernel:
    """A kernel, and what is known of the model and of the rows it gets.

    Attributes:
      name: as in `mesh.attention`.
      segments: no row has more segments, padding counted as one; None: nobody knows, or more
        than pay.
      reason: why it is not the device's own, or empty.
      uses: how the model attends, as far as is known.
    """

    name: Name = 'xla'
    segments: int | None = None
    reason: str = ''
    uses: tuple[Use, ...] = ()

    @property
    def words(self) -> str:
        """For the banner and summary.json."""
        if self.name == 'xla':
            return self.name + (f' ({self.reason})' if self.reason else '')
        by: str = self.name
        if self.name == 'cudnn':
            if self.segments is None:
                return 'cudnn, with a mask'
            several = f'rows of up to {self.segments} segments'
            by = f'cudnn, {"a row a segment" if self.segments == 1 else several}'
        masked = ', '.join(f'{name} ({why})' for name, why in self.masked.items())
        who = '' if self.name == 'cudnn' else 'by XLA '
        return by + (f'; {who}with a mask: {masked}' if masked else '')

    @property
    def masked(self) -> dict[str, str]:
        """Of the model's uses, those with a written-out mask, and why."""
        told = {use.name: _masked(self.name, use, self.segments) for use in self.uses}
        return {name: why for name, why in told.items() if why}

    @property
    def left_behind(self) -> dict[str, str]:
        """Self-attention that the device's own kernel leaves to XLA, and why."""
        own = {use.name for use in self.uses if not use.crosses and not self.fuses(use)}
        return {name: why for name, why in self.masked.items() if name in own}

    def fuses(self, use: Use) -> bool:
        """Whether the scores of a use are never kept. cuDNN keeps none, with a mask either."""
        return self.name == 'cudnn' or (self.name != 'xla' and not _masked(self.name, use, None))


def has_blocks(length: int) -> bool:
    """Whether so many queries are several whole blocks."""
    return length > BLOCK and length % BLOCK == 0


def worth_telling(segments: int, length: int) -> int | None:
    """The segments a row of `length` tokens that packed rows are laid out for, or None.

    cuDNN sets out for as many in every row as the fullest has. One H100 was faster so than with a
    mask up to about 30 in 1024 tokens and 80 in 2048 (docs/LOG.md).
    """
    return segments if segments <= max(1, length // 32) else None


def chip_of(device: Any) -> Chip:
    """What the rule asks of a `jax.Device`."""
    # A described device, one to compile for, has no client: cuDNN plans on the device itself.
    client = getattr(device, 'client', None)
    nvidia = 'cuda' in getattr(client, 'platform_version', '')
    return Chip(device.platform, float(device.compute_capability) if nvidia else None)


def choose(
    asked: Asked, chip: Chip, dtype: str, head_width: int, uses: tuple[Use, ...] = ()
) -> Kernel:
    """The kernel for heads of that width in that dtype, the device's own where it has one.

    Raises:
      UserError: one is asked for by name that does not serve.
    """
    if asked == 'xla':
        return Kernel(reason='asked for', uses=uses)
    if asked == 'blockwise':
        left = {use.name: _masked('blockwise', use, None) for use in uses}
        why = ', '.join(f'{name}: {words}' for name, words in left.items() if words)
        none = uses and all(left.values())
        require(not none, f'mesh.attention=blockwise: takes none of the model ({why})')
        return Kernel('blockwise', uses=uses)
    named: tuple[Name, ...] = ('splash', 'cudnn')
    own: Name = asked if asked in named else 'splash' if chip.platform == 'tpu' else 'cudnn'
    on_gpu = own == 'cudnn'
    reason = _no_cudnn(chip, dtype, head_width) if on_gpu else _no_splash(chip, dtype, uses)
    require(asked == 'auto' or not reason, f'mesh.attention={asked}: {reason}; set it to auto')
    if chip.platform == 'cpu':
        by_blocks = any(not _masked('blockwise', use, None) for use in uses)
        return Kernel('blockwise' if by_blocks else 'xla', uses=uses)
    return Kernel(reason=reason, uses=uses) if reason else Kernel(own, uses=uses)


def _no_splash(chip: Chip, dtype: str, uses: tuple[Use, ...]) -> str:
    """Why splash attention does not serve, or empty."""
    if chip.platform != 'tpu':
        return 'splash attention needs a TPU'
    if dtype != 'bfloat16':
        return f'splash attention computes in bf16, not in {dtype}'
    told = {use.name: _masked('splash', use, None) for use in uses}
    if uses and all(told.values()):
        parts = ', '.join(f'{name}: {why}' for name, why in told.items())
        return f'splash attention takes none of the model ({parts})'
    return ''


def _no_cudnn(chip: Chip, dtype: str, head_width: int) -> str:
    """Why cuDNN does not serve, or empty."""
    if chip.capability is None:
        return 'cuDNN needs an NVIDIA GPU'
    if dtype not in ('bfloat16', 'float16'):
        return f'cuDNN computes in bf16 and fp16, not in {dtype}'
    if chip.capability < 8:
        return f'cuDNN needs compute capability 8.0, not {chip.capability}'
    widest = 256 if chip.capability >= 9 else 128
    if head_width % 8 or head_width > widest:
        return f'cuDNN takes heads of a multiple of 8 up to {widest} wide, not of {head_width}'
    return ''


def _masked(name: Name, use: Use, segments: int | None) -> str:
    """Why a kernel wants the mask of a use written out, or empty; XLA always does."""
    if name == 'xla':
        return ''
    if name == 'blockwise':
        told = f'{use.length} positions are not several times {BLOCK}'
        return '' if has_blocks(use.length) else told
    if use.crosses:
        return "keys are another row's"
    if use.bias and (name == 'splash' or segments != 1):
        return 'bias'
    if use.prefix:
        return 'prefix'
    if use.window == 'by layer' or (use.window == 'both ways' and name == 'cudnn'):
        return f'window {use.window}'
    if name == 'splash' and use.length % LANES:
        return f'{use.length} positions are no multiple of {LANES}'
    return ''
