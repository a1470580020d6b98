"""Safetensors files, written a tensor at a time."""

import json
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lm.hub.safetensors_reader import DTYPES, INDEX, WHOLE

FORMATS = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Planned:
    """A tensor to be written.

    Attributes:
      name: in the file.
      dtype, shape: of the tensor.
      make: gives it, when its turn has come.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        """Of its entries."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(folder: Path, tensors: Sequence[Planned], shard_bytes: int) -> None:
    """Writes `model.safetensors`, or several files of at most `shard_bytes` and their index.

    A tensor larger than that has a file of its own. Holds one tensor at a time.

    Raises:
      OSError: the disk refuses.
    """
    shards: list[list[Planned]] = [[]]
    for tensor in tensors:
        held = sum(t.bytes for t in shards[-1])
        if shards[-1] and held + tensor.bytes > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    if len(shards) == 1:
        _write_file(folder / WHOLE, shards[0])
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f'model-{number:05}-of-{len(shards):05}.safetensors'
        _write_file(folder / name, shard)
        places.update({tensor.name: name for tensor in shard})
    total = sum(tensor.bytes for tensor in tensors)
    index = {'metadata': {'total_size': total}, 'weight_map': dict(sorted(places.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')


def _write_file(path: Path, tensors: Iterable[Planned]) -> None:
    header: dict[str, object] = {'__metadata__': {'format': 'pt'}}  # transformers insists on it
    end = 0
    for tensor in tensors:
        header[tensor.name] = {
            'dtype': FORMATS[tensor.dtype],
            'shape': list(tensor.shape),
            'data_offsets': [end, end + tensor.bytes],
        }
        end += tensor.bytes
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # the tensors begin at a multiple of 8
    with path.open('wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for tensor in tensors:
            array = tensor.make()
            assert array.dtype == tensor.dtype and array.shape == tensor.shape, tensor.name
            np.ascontiguousarray(array).view(np.uint8).tofile(file)
