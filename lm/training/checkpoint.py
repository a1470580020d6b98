"""Checkpoints: written by Orbax in the background, verified leaf by leaf when read.

The only module that knows Orbax. A checkpoint is the checkpointables `params`, `opt_state` and
`step`, and metadata of ours: the format's version, shape and digest of every leaf, and a record of
the run, all under one checksum.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.config import CheckpointConfig
from lm.errors import UserError
from lm.training.digest import by_path, digests
from lm.training.quiet import quieten
from lm.training.step import State

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

    def __init__(self, directory: Path):
        self._directory = directory

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

    def read_params(self, step: int, like: dict[str, Any]) -> dict[str, jax.Array]:
        """Only the parameters of one step, verified; raises as `read`."""
        params: dict[str, jax.Array] = self._read(step, {'params': like})[0]['params']
        return params

    def _read(self, step: int, like: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        folder = (self._directory / str(step)).absolute()
        try:
            metadata = _orbax().checkpointables_metadata(folder).custom_metadata
        except Exception as error:  # Orbax and TensorStore raise many types for broken files
            raise Damaged(_told(error)) from error
        leaves, record = self._opened(step, metadata)
        self._compare_shapes(step, leaves, like)
        try:
            tree = {**like, **_orbax().load_checkpointables(folder, _filled(like))}
        except Exception as error:
            raise Damaged(_told(error)) from error
        for path, digest in digests(tree).items():
            if leaves[path]['digest'] != digest:
                raise Damaged(f'{path} is not what was saved')
        return tree, record

    def _opened(self, step: int, metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Leaves and record out of a checkpoint's metadata."""
        if not isinstance(metadata, dict):
            raise Damaged('its metadata are missing')
        body = {name: value for name, value in metadata.items() if name != 'sha256'}
        if metadata.get('sha256') != _checksum(body):
            raise Damaged('its metadata are not what was saved')
        if body['format_version'] != FORMAT_VERSION:
            raise UserError(
                f'checkpoint {step} of {self._directory.parent}: format version '
                f'{body["format_version"]}, this lm reads {FORMAT_VERSION}'
            )
        return body['leaves'], body['record']

    def _compare_shapes(self, step: int, leaves: dict[str, Any], like: dict[str, Any]) -> None:
        where = f'checkpoint {step} of {self._directory.parent}'
        # Parameters first: where they differ the optimizer's state does too.
        ordered = sorted(by_path(like).items(), key=lambda item: not item[0].startswith('params/'))
        wanted = {path: _shape(x) for path, x in ordered}
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


class Checkpoints(SavedStates):
    """The checkpoints of a run under way, which saves, sets aside and removes some.

    Which are kept: the newest `keep_latest`, multiples of `keep_every_steps`, and `always`.
    """

    def __init__(self, directory: Path, config: CheckpointConfig, always: Iterable[int] = ()):
        super().__init__(directory)
        policies = _orbax().training.preservation_policies
        keep = [policies.LatestN(config.keep_latest), policies.CustomSteps([*always])]
        if config.keep_every_steps is not None:
            keep.append(policies.EveryNSteps(config.keep_every_steps))
        try:
            self._checkpointer = _orbax().training.Checkpointer(
                directory.absolute(),
                preservation_policy=policies.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=True,
            )
        except OSError as error:
            raise self._unwritable(error) from error
        self._begun: int | None = None

    def save(self, state: State, record: dict[str, Any]) -> None:
        """Begins to write `state`; returns once its arrays may be donated. Saved steps stay.

        Args:
          state: of the run.
          record: JSON that comes back with the state.

        Raises:
          UserError: this save, or the one before it, could not be written.
        """
        step, tree = int(state.step), state._asdict()
        if step == self._begun or step in self.steps:
            return
        found = digests(tree)
        leaves = {
            path: {'shape': _shape(x), 'digest': found[path]} for path, x in by_path(tree).items()
        }
        body = {'format_version': FORMAT_VERSION, 'leaves': leaves, 'record': record}
        try:
            self._checkpointer.save_checkpointables_async(
                step, _filled(tree), force=True,
                custom_metadata={**body, 'sha256': _checksum(body)},
            )  # fmt: skip
        except (OSError, ValueError) as error:
            if not _is_refusal(error):
                raise
            raise self._unwritable(error) from error
        self._begun = step

    def wait(self) -> None:
        """Returns when everything begun is on disk.

        Raises:
          UserError: it could not be written.
        """
        try:
            self._checkpointer.wait()
        except (OSError, ValueError) as error:
            if not _is_refusal(error):
                raise
            raise self._unwritable(error) from error

    def restore(
        self, like: State, strict: bool, newest: int | None = None
    ) -> tuple[State, dict[str, Any]] | None:
        """The newest undamaged checkpoint and its record, or None if there is none at all.

        Newer, damaged ones are told of in one line each and moved to `damaged/` in the workdir,
        so that the run can save those steps anew.

        Args:
          like: ShapeDtypeStructs with the shardings to restore to.
          strict: raise where the newest is damaged.
          newest: the latest step to look at.

        Raises:
          UserError: there are checkpoints and every one is damaged.
        """
        damage: dict[int, Damaged] = {}
        for step in reversed(self.steps):
            if newest is not None and step > newest:
                continue
            try:
                found = self.read(step, like)
            except Damaged as error:
                if strict:
                    raise UserError(f'--strict: checkpoint {step} is damaged ({error})') from error
                damage[step] = error
                continue
            for damaged, why in damage.items():
                self._set_aside(damaged)
                print(
                    f'lm: checkpoint {damaged} is damaged ({why}), set aside; '
                    f'going on from the one before, step {step}',
                    file=sys.stderr,
                )
            return found
        if damage:
            last, why = next(iter(damage.items()))
            raise UserError(
                f'workdir {self._directory.parent}: all checkpoints are damaged (step {last}: '
                f'{why}); nothing was changed: put a good copy in place, or give another workdir'
            )
        return None

    def _set_aside(self, step: int) -> None:
        """Moves the directory of a step out of Orbax's sight."""
        aside = self._directory.parent / 'damaged'
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        shutil.rmtree(target, ignore_errors=True)
        (self._directory / str(step)).rename(target)
        self._checkpointer.reload()

    def delete_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, the last one first.

        Raises:
          UserError: one cannot be removed.
        """
        for later in reversed(self.steps):
            if later > step:
                try:
                    self._checkpointer.delete(later)
                except OSError as error:
                    raise UserError(
                        f'workdir {self._directory.parent}: checkpoint {later} cannot be removed '
                        f'({error.strerror})'
                    ) from error

    def close(self) -> None:
        """Waits for what was begun and lets go of the directory.

        Raises:
          UserError: what was begun could not be written.
        """
        self.wait()
        self._checkpointer.close()

    def _unwritable(self, error: Exception) -> UserError:
        steps = self.steps
        kept = f'goes on from step {steps[-1]}' if steps else 'begins anew: none was saved before'
        return UserError(
            f'workdir {self._directory.parent}: a checkpoint could not be written '
            f'({_told(error)}); free some space: the same command {kept}'
        )


def _shape(x: Any) -> str:
    """`float32[128, 512]`."""
    return f'{np.dtype(x.dtype)}{[*x.shape]}'


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _told(error: Exception) -> str:
    """An error's own words in short: TensorStore's run over many lines, without an errno."""
    first = str(error).strip().partition('\n')[0][:200]
    return _refusal(error) or ': '.join(filter(None, (type(error).__name__, first)))


def _is_refusal(error: Exception) -> bool:
    """Whether a disk refused: TensorStore tells it by a ValueError, as other code tells a bug."""
    return isinstance(error, OSError) or _refusal(error) is not None


def _refusal(error: Exception) -> str | None:
    """The operating system's words in an error, if it is the cause."""
    return next((words for words in map(os.strerror, _DISK) if words in str(error)), None)


def _filled(tree: dict[str, Any]) -> dict[str, Any]:
    """Without what holds no array, which Orbax refuses: the state of an optimizer that has none."""
    return {name: part for name, part in tree.items() if jax.tree.leaves(part)}


def _orbax() -> Any:
    """Orbax's second API; its final place is `orbax.checkpoint.v1`."""
    try:
        from orbax.checkpoint import v1
    except ImportError:
        from orbax.checkpoint.experimental import v1
    quieten()
    return v1
