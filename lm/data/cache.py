"""The cache of prepared text: where it is, and folders in it that are made once."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from lm import processes
from lm.config import DataConfig
from lm.data import manifest
from lm.errors import UserError
from lm.storage import require_disk


def cache_root(data: DataConfig) -> Path:
    """Where prepared text is kept: `data.cache_dir`, else $LM_CACHE, else ~/.cache/lm.

    Raises:
      UserError: it is in a store.
    """
    require_disk('data.cache_dir', data.cache_dir or os.environ.get('LM_CACHE') or '')
    chosen = data.cache_dir or os.environ.get('LM_CACHE') or '~/.cache/lm'
    return Path(chosen).expanduser()


def make_once(
    data: DataConfig, folder: Path, build: Callable[[Path], None], words: str, *, make: bool
) -> None:
    """Makes `folder` of the cache unless it is there whole.

    Args:
      data: the settings of the cache.
      folder: below `cache_root(data)`; its name tells what is in it.
      build: writes it, into an empty folder.
      words: what it holds, for whoever waits.
      make: False where another process of the run has made it already.

    Raises:
      UserError: it is not there and not to be made, or the disk refuses.
    """
    root = cache_root(data)
    flaw = manifest.flaw(folder) if folder.exists() else None
    if folder.exists() and flaw is None:
        return
    if not make:
        raise UserError(
            f'data.cache_dir={root}: process {processes.index()} does not find there what process '
            '0 prepared; give a folder that all processes share'
        )
    if flaw is not None:
        print(f'lm: prepared text {folder} is broken ({flaw}); making it anew', file=sys.stderr)
    else:
        print(f'lm: preparing {words} in {folder}', file=sys.stderr)
    try:
        with manifest.built_aside(folder) as building:
            build(building)
    except OSError as error:
        raise unwritable(data, error) from None


def unwritable(data: DataConfig, error: OSError) -> UserError:
    """What says that the disk of the cache refused."""
    return UserError(
        f'data.cache_dir={cache_root(data)}: cannot be written: {error.strerror or error}; free '
        'some space, or set data.cache_dir or $LM_CACHE to another place'
    )
