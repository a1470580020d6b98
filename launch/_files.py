"""Files that a flag names: read and written with errors that name the flag."""

import os
from pathlib import Path

from lm.errors import UserError


def read_text(flag: str, path: str) -> str:
    """The UTF-8 text of the file that `--flag` names.

    Raises:
      UserError: there is none, it is empty, or it is not UTF-8.
    """
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise UserError(f'--{flag}={path}: cannot be read ({error.strerror})') from None
    except UnicodeDecodeError as error:
        raise UserError(
            f'--{flag}={path}: byte {error.start} is not UTF-8; convert it (iconv)'
        ) from None
    if not text:
        raise UserError(f'--{flag}={path}: is empty')
    return text


def require_writable(flag: str, path: str) -> None:
    """Refuses, before any long work, a file that `--flag` names and that cannot be made.

    Raises:
      UserError: its folder does not exist, or it is a folder itself.
    """
    if os.path.isdir(path):  # False of a name that no file can have
        raise UserError(f'--{flag}={path}: is a folder; give a file')
    if not Path(path).parent.is_dir():
        raise UserError(f'--{flag}={path}: there is no folder {Path(path).parent}')


def require_ending(flag: str, path: str, endings: tuple[str, ...]) -> None:
    """Refuses a file that `--flag` names and whose kind, by its ending, is none of `endings`.

    Raises:
      UserError: it ends otherwise.
    """
    if Path(path).suffix.lower() not in endings:
        raise UserError(f'--{flag}={path}: must end in {" or ".join(endings)}')


def make_folder(flag: str, path: str) -> Path:
    """The folder that `--flag` names, made before any long work.

    Raises:
      UserError: it cannot be made, or holds something already.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds = any(folder.iterdir())
    except OSError as error:
        raise UserError(f'--{flag}={path}: cannot be made ({error.strerror})') from None
    if holds:
        raise UserError(f'--{flag}={path}: is not empty; give a new folder')
    return folder
