"""Checkpoints as they lie on disk: read, and verified leaf by leaf.

A checkpoint is the Orbax checkpointables `params`, `opt_state` and `step`, `loss_scale` where there
is one, and metadata of ours:
the format's version, shape and digest of every leaf, and a record of the run, all under one
checksum.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm import processes
from lm.errors import UserError
from lm.training.digest import by_path, digests, path_words
from lm.training.quiet import quieten
from lm.training.step import State
from lm.training.stored_run import StoredRun

FORMAT_VERSION = 1
_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENOENT, errno.ESTALE, errno.EMFILE,
)  # fmt: skip
"""What a disk may say that refuses a write."""


class Damaged(Exception):
    """A checkpoint whose arrays cannot be read, or are not those that were saved."""


class SavedStates:
    """The checkpoints in a folder, to be read; nothing in it is changed.

    Another process may be writing there: only what is whole is seen.
    """

    def __init__(self, directory: Path, stored: StoredRun | None = None):
        """
        Args:
          directory: of the checkpoints.
          stored: where the arrays come from if that is a copy.
        """
        self._directory, self._stored = directory, stored
        self._owner = str(directory.parent) if stored is None else stored.store.address

    @property
    def steps(self) -> list[int]:
        """The steps that are on disk, oldest first. Orbax renames a step when it is whole."""
        if not self._directory.is_dir():
            return []
        return sorted(int(p.name) for p in self._directory.iterdir() if p.name.isdecimal())

    def read(self, step: int, like: State) -> tuple[State, dict[str, Any]]:
        """The state of one step, verified, and its record.

        Args:
          step: one of `steps`.
          like: ShapeDtypeStructs with the shardings to restore to.

        Raises:
          Damaged: it cannot be read, or a leaf's digest is not the one it was saved with.
          UserError: its arrays have other names or shapes, or its format another version.
        """
        tree, record = self._read(step, like._asdict())
        return State(**tree), record

    def read_params(
        self, step: int, like: dict[str, Any], unread: Iterable[str] = ()
    ) -> dict[str, jax.Array]:
        """Only the parameters of one step, verified; raises as `read`.

        They keep the dtypes that they were saved in, whatever those of `like`.

        Args:
          step: one of `steps`.
          like: ShapeDtypeStructs with the shardings to restore to.
          unread: parameters that are there too and stay there.
        """
        tree, _ = self._read(step, {'params': like}, saved_dtypes=True, unread=tuple(unread))
        params: dict[str, jax.Array] = tree['params']
        return params

    def param_shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter of one step, by its path; no array is read.

        Raises:
          Damaged: the checkpoint's metadata cannot be read.
          UserError: its format has another version.
        """
        leaves, _ = self._opened(step, self._metadata(step))
        return {
            path.removeprefix('params/'): _shape_in(leaf['shape'])
            for path, leaf in leaves.items()
            if path.startswith('params/')
        }

    def _metadata(self, step: int) -> Any:
        folder = (self._directory / str(step)).absolute()
        try:
            return orbax().checkpointables_metadata(folder).custom_metadata
        except Exception as error:  # Orbax and TensorStore raise many types for broken files
            raise Damaged(told(error)) from error

    def _read(
        self,
        step: int,
        like: dict[str, Any],
        saved_dtypes: bool = False,
        unread: tuple[str, ...] = (),
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._stored is None:
            tree, leaves, record = self._load(step, like, saved_dtypes, unread)
        else:
            self._stored.fetch(step, tuple(like))
            try:
                tree, leaves, record = self._load(step, like, saved_dtypes, unread)
            finally:
                self._stored.release(step)
        for path, digest in digests(tree).items():
            if leaves[path]['digest'] != digest:
                raise Damaged(f'{path} is not what was saved')
        return tree, record

    def _load(
        self, step: int, like: dict[str, Any], saved_dtypes: bool, unread: tuple[str, ...]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What the folder of a step holds: arrays, what is known of the leaves, and the record."""
        leaves, record = self._opened(step, self._metadata(step))
        if saved_dtypes:
            like = jax.tree_util.tree_map_with_path(
                lambda path, x: _with_dtype(x, leaves.get(path_words(path))), like
            )
        read = {path: leaf for path, leaf in leaves.items() if path not in _params(unread)}
        self._compare_shapes(step, read, like)
        asked, flaw = filled(like), None
        if unread:
            asked['params'] = {**like['params'], **dict.fromkeys(unread, orbax().PLACEHOLDER)}
        try:
            folder = (self._directory / str(step)).absolute()
            tree = {**like, **orbax().load_checkpointables(folder, asked)}
        except Exception as error:
            flaw = told(error)
        flaws = list(filter(None, processes.gathered(flaw)))
        if flaws:
            raise Damaged(flaws[0])
        for path in unread:
            del tree['params'][path]
        return tree, leaves, record

    def _opened(self, step: int, metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Leaves and record out of a checkpoint's metadata."""
        if not isinstance(metadata, dict):
            raise Damaged('its metadata are missing')
        body = {name: value for name, value in metadata.items() if name != 'sha256'}
        if metadata.get('sha256') != checksum(body):
            raise Damaged('its metadata are not what was saved')
        if body['format_version'] != FORMAT_VERSION:
            raise UserError(
                f'checkpoint {step} of {self._owner}: format version '
                f'{body["format_version"]}, this lm reads {FORMAT_VERSION}'
            )
        return body['leaves'], body['record']

    def _compare_shapes(self, step: int, leaves: dict[str, Any], like: dict[str, Any]) -> None:
        where = f'checkpoint {step} of {self._owner}'
        # Parameters first: where they differ the optimizer's state does too.
        ordered = sorted(by_path(like).items(), key=lambda item: not item[0].startswith('params/'))
        wanted = {path: shape_words(x) for path, x in ordered}
        for path, shape in wanted.items():
            if path not in leaves:
                raise UserError(f'{where}: has no {path}, which this run has')
            if leaves[path]['shape'] != shape:
                raise UserError(
                    f'{where}: {path} is {leaves[path]["shape"]} there and {shape} in this run'
                )
        parts = tuple(f'{name}/' for name in like)
        extra = [path for path in leaves if path.startswith(parts) and path not in wanted]
        if extra:
            raise UserError(f'{where}: has {extra[0]}, which this run has not')


def shape_words(x: Any) -> str:
    """`float32[128, 512]`."""
    return f'{np.dtype(x.dtype)}{[*x.shape]}'


def _shape_in(words: str) -> tuple[int, ...]:
    """The shape in the words of `shape_words`."""
    return tuple(json.loads(words[words.index('[') :]))


def _params(paths: Iterable[str]) -> set[str]:
    """Paths of parameters as a checkpoint has them."""
    return {f'params/{path}' for path in paths}


def _with_dtype(x: jax.ShapeDtypeStruct, leaf: dict[str, Any] | None) -> jax.ShapeDtypeStruct:
    """`x` in the dtype of a saved leaf, if there is one."""
    if leaf is None:
        return x
    dtype = jnp.dtype(leaf['shape'].partition('[')[0])
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding)


def checksum(body: dict[str, Any]) -> str:
    """SHA-256 of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def told(error: Exception) -> str:
    """An error's own words in short: TensorStore's run over many lines, without an errno."""
    first = str(error).strip().partition('\n')[0][:200]
    return _refusal(error) or ': '.join(filter(None, (type(error).__name__, first)))


def is_refusal(error: Exception) -> bool:
    """Whether a disk refused: TensorStore tells it by a ValueError, as other code tells a bug."""
    return isinstance(error, OSError) or _refusal(error) is not None


def _refusal(error: Exception) -> str | None:
    """The operating system's words in an error, if it is the cause."""
    return next((words for words in map(os.strerror, _DISK) if words in str(error)), None)


def filled(tree: dict[str, Any]) -> dict[str, Any]:
    """Without what holds no array, which Orbax refuses: the state of an optimizer that has none."""
    return {name: part for name, part in tree.items() if jax.tree.leaves(part)}


def orbax() -> Any:
    """Orbax's second API; its final place is `orbax.checkpoint.v1`."""
    try:
        from orbax.checkpoint import v1
    except ImportError:
        from orbax.checkpoint.experimental import v1
    quieten()
    return v1
