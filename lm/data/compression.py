"""Opening files that may be packed: `.gz` and `.zst`."""

import gzip
import io
from pathlib import Path, PurePath
from typing import Any

from lm.storage import StoredFile

PACKED_SUFFIXES = ('.gz', '.zst')
_BLOCK = 1 << 17


def open_packed(path: Path | StoredFile, suffix: str) -> io.BufferedIOBase:
    """The bytes of `path`, unpacked if `suffix` is one of `PACKED_SUFFIXES`.

    Reading raises OSError or EOFError where the file is damaged or cut short.
    """
    if suffix == '.gz':
        if isinstance(path, Path):
            return gzip.GzipFile(path, 'rb')
        return gzip.GzipFile(fileobj=path.open('rb'))
    if suffix == '.zst':
        return io.BufferedReader(_ZstandardFile(path), _BLOCK)
    return path.open('rb')


class _ZstandardFile(io.RawIOBase):
    """Unpacks frame after frame, and notices an unfinished last one (the library's reader ends
    there without a word)."""

    def __init__(self, path: Path | StoredFile):
        import zstandard

        self._decompressor = zstandard.ZstdDecompressor()
        self._failure = zstandard.ZstdError
        self._file: Any = path.open('rb')
        self._frame: Any = None
        self._packed = b''
        self._ready = b''

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and self._advance():
            pass
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _advance(self) -> bool:
        """Unpacks one more block into `_ready`; False at the end of the file."""
        self._packed = self._packed or self._file.read(_BLOCK)
        if not self._packed:
            if self._frame is not None:
                raise EOFError('the file ends within a zstd frame')
            return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._ready = self._frame.decompress(self._packed)
        except self._failure as error:
            raise OSError(str(error)) from None
        self._packed = self._frame.unused_data if self._frame.eof else b''
        if self._frame.eof:
            self._frame = None
        return True


def kind_of(path: PurePath | StoredFile) -> tuple[str, str]:
    """A file's suffix in lower case, and that of its compression; empty where there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED_SUFFIXES else ''
    return (suffixes[-1] if suffixes else ''), packed
