"""What a compiler says of a step: bytes on a device, and the collectives. The step is given."""

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm.errors import UserError
from lm.planning.collectives import Collective, collectives

if TYPE_CHECKING:
    import jax

_NEEDS = re.compile(r'Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm')
_CUDA_TOOLS = ('libdevice', 'PTX compilation provider')
_UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclass(frozen=True)
class CompiledStep:
    """A compiled step; bytes are those of one device.

    Attributes:
      arguments: state and batch, as the device lays them out.
      unpadded: the same without the padding of its layouts.
      outputs, aliased, temp: what it returns, how much of that takes the arguments' place, and
        what it needs besides.
      host: bytes in the memory of its host: of the state, and of activations. XLA:CPU counts none.
      seconds: of compiling.
      collectives: in a run of it.
    """

    arguments: int
    unpadded: int
    outputs: int
    aliased: int
    temp: int
    host: int
    seconds: float
    collectives: tuple[Collective, ...]

    @property
    def peak(self) -> int:
        """Bytes in all."""
        return self.arguments + self.outputs - self.aliased + self.temp

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Collectives of more than one device: in the program's text, in a run, and their bytes."""
        found: dict[str, dict[str, int]] = {}
        for one in self.collectives:
            if one.group != 1:
                kind = found.setdefault(one.kind, {'count': 0, 'times': 0, 'bytes': 0})
                kind['count'] += 1
                kind['times'] += one.times
                kind['bytes'] += one.times * one.bytes
        return found


@dataclass(frozen=True)
class TooLarge:
    """A step that the compiler refused, for its device holds less than it needs.

    Attributes:
      needed: bytes on a device; None where the compiler does not say.
      available: bytes that it counts on.
      seconds: until it refused.
    """

    needed: float | None
    available: float | None
    seconds: float


def compile_step(lowered: 'jax.stages.Lowered') -> CompiledStep | TooLarge:
    """Compiles a step and reads its memory and collectives off it.

    Raises:
      UserError: the step is for a GPU, and what assembles programs for one is not installed.
    """
    import jax

    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if any(tool in str(error) for tool in _CUDA_TOOLS):
            raise UserError(
                "compile: needs CUDA's ptxas and libdevice, which are not installed: "
                "pip install 'lm-lab[cuda13]'"
            ) from error
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        seconds = time.perf_counter() - begin
        said = _NEEDS.search(str(error))
        if said is None:
            return TooLarge(None, None, seconds)
        needed, available = (float(said[i]) * _UNITS[said[i + 1]] for i in (1, 3))
        return TooLarge(needed, available, seconds)
    seconds = time.perf_counter() - begin
    memory: Any = compiled.memory_analysis()
    return CompiledStep(
        arguments=memory.argument_size_in_bytes,
        unpadded=_unpadded(lowered, compiled),
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temp=memory.temp_size_in_bytes,
        host=memory.host_argument_size_in_bytes
        + memory.host_output_size_in_bytes
        - memory.host_alias_size_in_bytes
        + memory.host_temp_size_in_bytes,
        seconds=seconds,
        collectives=tuple(collectives(compiled.as_text() or '')),
    )


def _unpadded(lowered: 'jax.stages.Lowered', compiled: 'jax.stages.Compiled') -> int:
    """Bytes on a device of the arguments that the program keeps: those unused have no sharding.

    A CPU's compiler counts what lies in the host's memory with the rest.
    """
    import jax

    from lm.mesh.host_offload import HOST

    def is_none(x: object) -> bool:
        return x is None

    def counts(sharding: Any) -> bool:
        on_cpu = next(iter(sharding.device_set)).platform == 'cpu'
        return on_cpu or sharding.memory_kind != HOST

    shardings = jax.tree.leaves(compiled.input_shardings, is_leaf=is_none)
    arrays = jax.tree.leaves(lowered.in_avals, is_leaf=is_none)
    return sum(
        math.prod(sharding.shard_shape(array.shape)) * array.dtype.itemsize
        for array, sharding in zip(arrays, shardings, strict=True)
        if array is not None and sharding is not None and counts(sharding)
    )
