"""The beginning of a stream of texts, kept on disk together with the place where it goes on.

`documents.jsonl` holds the texts, one `{"text": ...}` a line, and only ever grows. `position.json`
says how many of its bytes count and what the stream itself needs to go on after them. It is
replaced in one step once those bytes are on the disk, so a kill costs what came since, and what is
read afterwards is what would have been read without it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lm import processes

COMMIT_BYTES = 1 << 22
"""The position is saved each time that so many bytes have come."""

_HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Position:
    """How far a stream was read.

    Attributes:
      documents: texts kept.
      bytes: of their lines.
      sha256: of these bytes, hexadecimal.
      ended: whether the stream has no more.
      state: the stream's own, of JSON's types; None before its first text.
    """

    documents: int = 0
    bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    ended: bool = False
    state: Any = None


@runtime_checkable
class Stream(Protocol):
    """Texts that come one after the other."""

    def texts(self) -> Iterator[str]:
        """Those after the place where the stream was opened."""
        ...

    def state(self) -> Any:
        """From which a stream can be opened that goes on after the last text."""
        ...


class SavedStream:
    """The texts of a stream that were read so far, in a folder of their own.

    Attributes:
      position: how far it was read.
    """

    def __init__(self, folder: Path):
        """Opens what there is, and checks its hash."""
        self._folder = folder
        self._texts = folder / 'documents.jsonl'
        self._open()

    def read_on(self, documents: int, open_stream: Callable[[Any], Stream]) -> None:
        """Goes on reading until `documents` texts are kept or the stream ends.

        Args:
          documents: texts from the stream's start.
          open_stream: makes the stream of a state; called only where texts are missing.

        Raises:
          OSError: the disk is full, or the folder cannot be written.
        """
        if self._holds(documents):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder):
            self._open()  # another process may have read on meanwhile
            if not self._holds(documents):
                self._append(documents, open_stream(self.position.state))

    def texts(self, documents: int) -> Iterator[str]:
        """The first `documents` texts."""
        for line in self._lines(documents):
            yield json.loads(line)['text']

    def sha256(self, documents: int) -> str:
        """Of the lines of the first `documents` texts: the same however they were read."""
        if documents == self.position.documents:
            return self.position.sha256
        digest = hashlib.sha256()
        for line in self._lines(documents):
            digest.update(line)
        return digest.hexdigest()

    def _holds(self, documents: int) -> bool:
        return self.position.ended or self.position.documents >= documents

    def _lines(self, documents: int) -> Iterator[bytes]:
        if documents == 0:
            return
        with self._texts.open('rb') as file:
            yield from islice(file, documents)

    def _open(self) -> None:
        """Sets `position` and the hash of its bytes; a damaged folder counts as an empty one."""
        self.position, self._digest = Position(), hashlib.sha256()
        saved = self._folder / 'position.json'
        if not saved.exists():
            return
        with contextlib.suppress(OSError, ValueError, TypeError):
            position = Position(**json.loads(saved.read_text()))
            digest = _sha256(self._texts, position.bytes)
            if digest.hexdigest() == position.sha256:
                self.position, self._digest = position, digest
                return
        processes.tell(f'lm: {self._folder} is broken; reading the stream anew')

    def _append(self, documents: int, stream: Stream) -> None:
        count, size = self.position.documents, self.position.bytes
        with self._texts.open('ab') as file:
            file.truncate(size)  # what a kill left behind the position

            def commit(ended: bool) -> None:
                file.flush()
                os.fsync(file.fileno())
                sha256 = self._digest.hexdigest()
                self._save(Position(count, size, sha256, ended, stream.state()))

            for text in stream.texts():
                line = json.dumps({'text': text}, ensure_ascii=False).encode() + b'\n'
                file.write(line)
                self._digest.update(line)
                count, size = count + 1, size + len(line)
                if count == documents or size - self.position.bytes >= COMMIT_BYTES:
                    commit(ended=False)
                if count == documents:
                    return
            commit(ended=True)

    def _save(self, position: Position) -> None:
        aside = self._folder / 'position.json.new'
        with aside.open('w') as file:
            json.dump(asdict(position), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._folder / 'position.json')
        self.position = position


def _sha256(path: Path, size: int) -> Any:
    """The hash object over the first `size` bytes, or all where there are fewer."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while size > 0 and (block := file.read(min(size, _HASH_BLOCK))):
            digest.update(block)
            size -= len(block)
    return digest


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time appends; a lock goes with the process that holds it."""
    with (folder / 'lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            processes.tell(f'lm: waiting for another process that reads into {folder}')
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
