"""Where a run elsewhere keeps what it makes: what outlives its machines, and what they share."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from lm.errors import UserError
from lm.flags import Flags

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
    if '://' not in workdir and not _within(workdir, folders):
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
    verb, *words = command
    cache = Flags(words).peek(CACHE_FLAG) or variables.get(CACHE_VARIABLE, '')
    if hosts > 1 and verb == 'train' and not _within(cache, folders):
        given = f'--{CACHE_FLAG}={cache}' if cache else f'--{CACHE_FLAG}: missing'
        raise UserError(
            f'train: {given}; {hosts} hosts read one cache of prepared text: give {remedy}'
        )


def _within(path: str, folders: tuple[str, ...]) -> bool:
    pure = PurePosixPath(path)
    return '..' not in pure.parts and any(pure.is_relative_to(folder) for folder in folders)
