"""Where a run elsewhere keeps what it makes: what outlives its machines, and what they share."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from lm.errors import UserError
from lm.flags import Flags
from lm.storage import EXTRAS

CACHE_FLAG = 'config.data.cache_dir'
CACHE_VARIABLE = 'LM_CACHE'


def require_lasting(command: tuple[str, ...], folders: tuple[str, ...], remedy: str) -> None:
    """Refuses a workdir that would be gone with the machine that wrote it.

    Args:
      command: what is launched.
      folders: that outlive the machines, and that all of them have.
      remedy: how to come by such a folder.

    Raises:
      UserError: the workdir lies in none of them, nor in a bucket.
    """
    verb, *words = command
    workdir = Flags(words).peek('workdir')
    if workdir is None:
        if verb == 'train':
            raise UserError(f'train: --workdir: missing; give gs://BUCKET/PATH, or {remedy}')
        return
    if not _in_bucket(workdir) and not _within(workdir, folders):
        raise UserError(
            f'{verb}: --workdir={workdir}: would be lost with the machine; give '
            f'gs://BUCKET/PATH, or {remedy}'
        )


def require_shared_cache(
    command: tuple[str, ...],
    variables: Mapping[str, str],
    folders: tuple[str, ...],
    hosts: int,
    remedy: str,
) -> None:
    """Refuses a cache that each host would have for itself: one prepares the text for all.

    Raises:
      UserError: it lies in none of `folders`.
    """
    cache = _cache(command, variables)
    if hosts > 1 and command[0] == 'train' and not _within(cache, folders):
        given = f'--{CACHE_FLAG}={cache}' if cache else f'--{CACHE_FLAG}: missing'
        raise UserError(
            f'train: {given}; {hosts} hosts read one cache of prepared text: give {remedy}'
        )


def shared_folders(command: tuple[str, ...], variables: Mapping[str, str]) -> tuple[str, ...]:
    """The folders that the command takes for shared: its workdir, its cache; no buckets."""
    workdir = Flags(command[1:]).peek('workdir') or ''
    found = (workdir, _cache(command, variables))
    return tuple(folder for folder in found if folder and not _in_bucket(folder))


def _cache(command: tuple[str, ...], variables: Mapping[str, str]) -> str:
    return Flags(command[1:]).peek(CACHE_FLAG) or variables.get(CACHE_VARIABLE, '')


def _in_bucket(path: str) -> bool:
    return path.partition('://')[0] in EXTRAS and '://' in path


def _within(path: str, folders: tuple[str, ...]) -> bool:
    pure = PurePosixPath(path)
    return '..' not in pure.parts and any(pure.is_relative_to(folder) for folder in folders)
