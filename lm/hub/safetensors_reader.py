"""Tensors in safetensors files, read a stretch at a time.

The files are read, not mapped into memory: mapped pages count as the process's own until the
kernel takes them back, and an import's memory could not be bounded. The format is that of
https://github.com/huggingface/safetensors: 8 bytes with the header's length, a JSON header that
gives dtype, shape and byte range of each tensor, then the bytes, little endian.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from lm.errors import UserError

WHOLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
DTYPES: dict[str, np.dtype] = {
    'F32': np.dtype(np.float32),
    'F16': np.dtype(np.float16),
    'BF16': np.dtype(ml_dtypes.bfloat16),
}
"""The formats that parameters may have, by their names in a header."""
_BYTES = {
    **{name: dtype.itemsize for name, dtype in DTYPES.items()},
    'F64': 8, 'I64': 8, 'U64': 8, 'I32': 4, 'U32': 4, 'I16': 2, 'U16': 2, 'I8': 1, 'U8': 1,
    'BOOL': 1, 'F8_E4M3': 1, 'F8_E5M2': 1,
}  # fmt: skip
_HEADER_LIMIT = 100_000_000  # bytes, as in the reference implementation


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file.

    Attributes:
      file: that holds it.
      format: its dtype's name in the header; parameters have one of `DTYPES`.
      shape: its sizes.
      start: where its bytes begin in the file.
    """

    file: Path
    format: str
    shape: tuple[int, ...]
    start: int

    @property
    def dtype(self) -> np.dtype:
        """As NumPy has it."""
        return DTYPES[self.format]

    @property
    def stop(self) -> int:
        """Where its bytes end in the file."""
        return self.start + math.prod(self.shape) * _BYTES[self.format]

    def read(self, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Its entries from `first` to before `stop` in row-major order, one axis.

        Raises:
          UserError: the file cannot be read, or has become shorter.
        """
        stop = math.prod(self.shape) if stop is None else stop
        size = self.dtype.itemsize
        count = (stop - first) * size
        try:
            data = np.fromfile(self.file, np.uint8, count, offset=self.start + first * size)
        except OSError as error:
            raise UserError(f'{self.file}: cannot be read ({error.strerror})') from error
        if len(data) < count:
            raise UserError(f'{self.file}: became shorter while it was read')
        return data.view(self.dtype.newbyteorder('<') if size > 2 else self.dtype)


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """The tensors of `model.safetensors`, or of the files that its index names, by name.

    Raises:
      UserError: no such files, one that is cut short or malformed, or one that lacks what the
        index says it holds.
    """
    index = folder / INDEX
    if index.is_file():
        return _indexed(folder, index)
    whole = folder / WHOLE
    if whole.is_file():
        return _of_file(whole)
    pickled = sorted(folder.glob('pytorch_model*.bin'))
    if pickled:
        raise UserError(
            f'{folder}: holds {pickled[0].name} but no {WHOLE}: pickled weights may run any code; '
            'save the model as safetensors (save_pretrained of a recent transformers does)'
        )
    raise UserError(f'{folder}: holds no {WHOLE} and no {INDEX}')


def _indexed(folder: Path, index: Path) -> dict[str, Stored]:
    try:
        places: dict[str, str] = json.loads(index.read_text(encoding='utf-8'))['weight_map']
        files = sorted(set(places.values()))
        if not all(isinstance(name, str) for name in files):
            raise TypeError('a file name that is no text')
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f'{index}: is no index with a weight_map ({error})') from error
    found: dict[str, dict[str, Stored]] = {}
    for name in files:
        if not (folder / name).is_file():
            raise UserError(f'{folder / name}: is missing; {INDEX} names it')
        found[name] = _of_file(folder / name)
    for tensor, name in places.items():
        if tensor not in found[name]:
            raise UserError(f'{folder / name}: lacks {tensor}, which {INDEX} says it holds')
    return {tensor: stored for tensors in found.values() for tensor, stored in tensors.items()}


def _of_file(path: Path) -> dict[str, Stored]:
    try:
        size = path.stat().st_size
        with path.open('rb') as file:
            head = file.read(8)
            length = struct.unpack('<Q', head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
                raise UserError(f'{path}: is cut short or no safetensors file (its header is bad)')
            header = json.loads(file.read(length).decode())
        begin = 8 + length
        tensors = {
            name: _entry(path, begin, entry)
            for name, entry in header.items()
            if name != '__metadata__'
        }
    except UserError:
        raise
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f'{path}: its header is not that of a safetensors file') from error
    needed = begin
    for name, stored in sorted(tensors.items(), key=lambda item: item[1].start):
        if stored.start != needed:
            raise UserError(f'{path}: {name} does not begin where the tensor before it ends')
        needed = stored.stop
    if size != needed:
        words = 'is cut short' if size < needed else 'has bytes that no tensor owns'
        raise UserError(f'{path}: {words}: {size:,} bytes, by its header {needed:,}')
    return tensors


def _entry(path: Path, begin: int, entry: dict[str, Any]) -> Stored:
    start, stop = entry['data_offsets']
    stored = Stored(path, entry['dtype'], tuple(entry['shape']), begin + start)
    if stored.stop != begin + stop:
        raise ValueError('offsets that do not fit the shape')
    return stored
