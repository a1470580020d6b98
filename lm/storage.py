"""Object stores by their addresses, `gs://bucket/name` and `s3://bucket/name`, through fsspec.

A store has neither folders nor appending nor renaming: objects are listed, read, put and removed.
An object is put whole or not at all; whoever puts several says by the last that all are there.
`memory://`, a store of this process alone, is for tests.

fsspec is used as it is: it is what `gcsfs` and `s3fs` are written for and what Orbax and `datasets`
bring anyway. A layer that imitates `pathlib` on it would promise appending and renaming.
"""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lm.errors import UserError, did_you_mean

EXTRAS = {'gs': 'gcs', 's3': 's3'}
"""Extras of this package by scheme."""
_CREDENTIALS = {
    'gs': 'set GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`',
    's3': 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE',
}
_OPTIONS: dict[str, dict[str, Any]] = {
    'gs': {'requests_timeout': 60},
    's3': {'config_kwargs': {'connect_timeout': 10, 'read_timeout': 60}},
}
"""How long is waited for an answer, in seconds: a wrong endpoint is to be told of."""
_BLOCK = 1 << 17
_NO_CREDENTIALS = ('CredentialsError', 'RefreshError', 'TokenRetrievalError')
"""Ends of the names of errors that say so; botocore's and google-auth's share no type."""


def is_stored(place: str | Path) -> bool:
    """Whether `place` is an address, not a path."""
    return '://' in str(place)


def is_hidden(name: str) -> bool:
    """Whether a part of a name begins with a dot."""
    return any(part.startswith('.') for part in name.split('/'))


def require_disk(words: str, place: str | Path) -> None:
    """Refuses an address where only a path serves.

    Args:
      words: the flag or field, for the error.
      place: its value.

    Raises:
      UserError: it is an address.
    """
    if is_stored(place):
        raise UserError(f'{words}={place}: is in a store; give a folder or file on a disk')


class Store:
    """The objects below an address."""

    def __init__(self, address: str, words: str):
        """
        Args:
          address: `SCHEME://BUCKET/NAME`.
          words: the flag or field that gives it and its value, for errors.

        Raises:
          UserError: another scheme, or a package that is not installed.
        """
        self._words = words
        self._scheme, _, rest = address.partition('://')
        self.address = f'{self._scheme}://{rest.rstrip("/")}'
        if self._scheme not in (*EXTRAS, 'memory'):
            known = [f'{scheme}://' for scheme in EXTRAS]
            hint = did_you_mean(f'{self._scheme}://', known)
            raise UserError(f'{self._words}: no such kind of store{hint}')
        self._bucket = rest.partition('/')[0]
        if not self._bucket:
            raise UserError(f'{self._words}: names no bucket; give {self._scheme}://BUCKET/NAME')
        with self._told():
            import fsspec

            # What it logs of failed requests, traces and all, comes once more as their error.
            logging.getLogger('gcsfs').setLevel(logging.CRITICAL)
            options = _OPTIONS.get(self._scheme, {})
            self._system: Any = fsspec.filesystem(self._scheme, use_listings_cache=False, **options)
            self._root = self._system._strip_protocol(self.address)

    def names(self) -> dict[str, int]:
        """Bytes of every object below the address, by its name from there on.

        Raises:
          UserError: there is no such bucket, or it may not be listed.
        """
        with self._told():
            found = self._system.find(self._root, detail=True)
        return {
            name: int(facts['size'])
            for path, facts in sorted(found.items())
            if (name := self._relative(path)) and not name.endswith('/')
        }

    def glob(self, pattern: str) -> list[str]:
        """The names of the objects that a pattern matches; hidden ones only if it is itself."""
        with self._told():
            found = self._system.glob(self._path(pattern), detail=True)
        names = [self._relative(path) for path, facts in found.items() if facts['type'] == 'file']
        return sorted(name for name in names if is_hidden(pattern) or not is_hidden(name))

    def holds(self, name: str) -> bool:
        """Whether there is an object of this name."""
        with self._told():
            return bool(self._system.isfile(self._path(name)))

    def open(self, name: str) -> Any:
        """An object, a binary file to be read."""
        with self._told():
            return self._system.open(self._path(name), 'rb')

    def fetch(self, targets: Mapping[str, Path]) -> None:
        """Writes objects into files, several at a time; folders are made if need be.

        Raises:
          UserError: the store or the disk refuses.
        """
        if targets:
            with self._told():
                self._system.get([*map(self._path, targets)], [*map(str, targets.values())])

    def put(self, sources: Mapping[str, Path]) -> None:
        """Makes files objects, several at a time, each whole or not at all.

        Raises:
          UserError: the store refuses.
        """
        if sources:
            with self._told():
                self._system.put([*map(str, sources.values())], [*map(self._path, sources)])

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, one after another; one that is not there is removed already."""
        for name in names:
            with self._told(), contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f'{self._root}/{name}'

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip('/')

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Says in one line what a store refuses: each package raises errors of its own."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(f'{self._words}: {self._refusal(error)}') from error

    def _refusal(self, error: Exception) -> str:
        reason = next(iter(str(error).strip().splitlines()), '')[:200] or type(error).__name__
        if isinstance(error, ImportError):
            return f"needs a package; pip install 'lm-lab[{EXTRAS[self._scheme]}]' ({reason})"
        if type(error).__name__.endswith(_NO_CREDENTIALS):
            return f'no credentials are found; {_CREDENTIALS[self._scheme]}'
        # Of all that is not there only the bucket is an error: a name without objects is empty.
        if isinstance(error, FileNotFoundError):
            return f'there is no bucket {self._bucket}, or nothing of this name; check the address'
        if isinstance(error, PermissionError) or getattr(error, 'code', None) in (401, 403):
            return f'access is denied ({reason}); give credentials that may list, read and write'
        return f'cannot be reached, read or written ({reason})'


@dataclass(frozen=True)
class StoredFile:
    """An object, as far as it is like a `Path` that is read."""

    store: Store
    path: str

    def __str__(self) -> str:
        return f'{self.store.address}/{self.path}'

    @property
    def name(self) -> str:
        """The last part of its address."""
        return PurePosixPath(self.path).name

    @property
    def suffixes(self) -> list[str]:
        """As of a `Path`."""
        return PurePosixPath(self.path).suffixes

    def open(self, mode: str = 'rb') -> io.BufferedReader:
        """Its bytes, as it is read."""
        assert mode == 'rb'
        return io.BufferedReader(self.store.open(self.path), _BLOCK)
