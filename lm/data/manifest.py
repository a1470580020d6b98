"""A folder that is whole or does not exist: built aside, sealed with hashes, renamed into place."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_MANIFEST = 'manifest.json'
_ASIDE = '.building-'
_HASH_BLOCK = 1 << 20


def seal(folder: Path) -> None:
    """Writes the size and SHA-256 of every file of `folder` into its manifest."""
    files = {
        path.relative_to(folder).as_posix(): {'bytes': path.stat().st_size, 'sha256': _sha256(path)}
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }
    (folder / _MANIFEST).write_text(json.dumps(files, indent=1))


def flaw(folder: Path) -> str | None:
    """What is wrong with a sealed folder, or None. Reads every byte: about a second a gigabyte."""
    try:
        files = json.loads((folder / _MANIFEST).read_text())
        for name, expected in files.items():
            path = folder / name
            if not path.is_file():
                return f'{name} is missing'
            if path.stat().st_size != expected['bytes'] or _sha256(path) != expected['sha256']:
                return f'{name} has changed'
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f'no readable {_MANIFEST}'
    return None


@contextlib.contextmanager
def built_aside(folder: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `folder` when the block ends well.

    It is sealed first. What was at `folder` is removed, unless another process put a sound one
    there meanwhile: then that stays. On an error nothing is left behind.

    Raises:
      OSError: the disk is full, or the place cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    prefix = f'{_ASIDE}{socket.gethostname()}-{os.getpid()}-'
    aside = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        built = aside / 'built'
        built.mkdir()
        yield built
        seal(built)
        if folder.exists() and flaw(folder) is not None:
            with contextlib.suppress(FileNotFoundError):
                folder.rename(aside / 'broken')
        try:
            built.rename(folder)
        except OSError:
            if flaw(folder) is not None:
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Removes what processes of this machine that were killed had begun."""
    mine = f'{_ASIDE}{socket.gethostname()}-'
    for path in parent.glob(f'{_ASIDE}*'):
        process = path.name.removeprefix(mine).split('-')[0]
        if path.name.startswith(mine) and process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
