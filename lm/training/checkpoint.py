"""Checkpoints: written by Orbax in the background, verified leaf by leaf when read.

The only module that knows Orbax. A checkpoint is the checkpointables `params`, `opt_state` and
`step`, and custom metadata with the format's version and a digest of every leaf.
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from lm.config import CheckpointConfig
from lm.errors import UserError
from lm.training.digest import digests
from lm.training.step import State

FORMAT_VERSION = 1


class Damaged(Exception):
    """A checkpoint whose arrays cannot be read, or are not those that were saved."""


class Checkpoints:
    """The checkpoints of one workdir.

    Which are kept: the newest `keep_latest`, multiples of `keep_every_steps`, and `always`.
    """

    def __init__(self, directory: Path, config: CheckpointConfig, always: Iterable[int] = ()):
        policies = _orbax().training.preservation_policies
        keep = [policies.LatestN(config.keep_latest), policies.CustomSteps([*always])]
        if config.keep_every_steps is not None:
            keep.append(policies.EveryNSteps(config.keep_every_steps))
        self._directory = directory
        self._checkpointer = _orbax().training.Checkpointer(
            directory.absolute(),
            preservation_policy=policies.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
        )

    @property
    def steps(self) -> list[int]:
        """The steps that are saved, oldest first."""
        return sorted(int(c.step) for c in self._checkpointer.checkpoints)

    def save(self, state: State, record: dict[str, Any]) -> None:
        """Begins to write `state`; returns once the arrays may be donated. Saved steps stay.

        Args:
          state: of the run.
          record: JSON that comes back with the state.

        Raises:
          UserError: this save, or the one before it, could not be written.
        """
        step = int(state.step)
        if step in self.steps:
            return
        tree = state._asdict()
        try:
            self._checkpointer.save_checkpointables_async(
                step,
                tree,
                force=True,
                custom_metadata={
                    'format_version': FORMAT_VERSION,
                    'digests': digests(tree),
                    'record': record,
                },
            )
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error

    def wait(self) -> None:
        """Returns when everything begun is on disk.

        Raises:
          UserError: it could not be written.
        """
        try:
            self._checkpointer.wait()
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error

    def restore(self, like: State, strict: bool) -> tuple[State, dict[str, Any]] | None:
        """The newest undamaged checkpoint and its record, or None if there is none at all.

        Newer, damaged ones are told of in one line each and moved to `damaged/` in the workdir,
        so that the run can save those steps anew.

        Args:
          like: ShapeDtypeStructs with the shardings to restore to.
          strict: raise where the newest is damaged.

        Raises:
          UserError: there are checkpoints and every one is damaged.
        """
        damage: dict[int, Damaged] = {}
        for step in reversed(self.steps):
            try:
                found = self.read(step, like)
            except Damaged as error:
                if strict:
                    raise UserError(f'--strict: checkpoint {step} is damaged ({error})') from error
                damage[step] = error
                continue
            for newer, error in damage.items():
                self._set_aside(newer)
                print(
                    f'lm: checkpoint {newer} is damaged ({error}), set aside; '
                    f'going on from the one before, step {step}',
                    file=sys.stderr,
                )
            return found
        if damage:
            newest, error = next(iter(damage.items()))
            raise UserError(
                f'workdir {self._directory.parent}: all checkpoints are damaged '
                f'(step {newest}: {error})'
            )
        return None

    def read(self, step: int, like: State) -> tuple[State, dict[str, Any]]:
        """The checkpoint of one step, verified, and its record.

        Raises:
          Damaged: it cannot be read, or a leaf's digest is not the one it was saved with.
          UserError: it was written by a version of another format.
        """
        tree, record = self._read(step, like._asdict())
        return State(**tree), record

    def read_params(self, step: int, like: dict[str, Any]) -> dict[str, jax.Array]:
        """Only the parameters of one step, verified; raises as `read`."""
        return self._read(step, {'params': like})[0]['params']

    def _read(self, step: int, like: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            metadata = self._checkpointer.checkpointables_metadata(step).custom_metadata
            tree = self._checkpointer.load_checkpointables(step, like)
        except Exception as error:  # Orbax and TensorStore raise many types for broken files
            raise Damaged(_first_line(error)) from error
        if not isinstance(metadata, dict) or 'digests' not in metadata:
            raise Damaged('its digests are missing')
        if metadata.get('format_version') != FORMAT_VERSION:
            raise UserError(
                f'checkpoint {step} of {self._directory.parent}: format version '
                f'{metadata.get("format_version")}, this lm reads {FORMAT_VERSION}'
            )
        for path, digest in digests(tree).items():
            if metadata['digests'].get(path) != digest:
                raise Damaged(f'{path} is not what was saved')
        return tree, metadata['record']

    def _set_aside(self, step: int) -> None:
        """Moves the directory of a step out of Orbax's sight."""
        aside = self._directory.parent / 'damaged'
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        shutil.rmtree(target, ignore_errors=True)
        (self._directory / str(step)).rename(target)
        self._checkpointer.reload()

    def delete_after(self, step: int) -> None:
        """Removes the checkpoints of later steps."""
        for later in self.steps:
            if later > step:
                self._checkpointer.delete(later)

    def close(self) -> None:
        """Waits for what was begun and lets go of the directory."""
        self.wait()
        self._checkpointer.close()

    def _unwritable(self, error: Exception) -> UserError:
        kept = f'step {self.steps[-1]} is kept' if self.steps else 'none was saved before'
        return UserError(
            f'workdir {self._directory.parent}: a checkpoint could not be written '
            f'({_first_line(error)}); free some space and start again: {kept}'
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0][:200]}' if text else type(error).__name__


def _orbax() -> Any:
    """Orbax's second API; its final place is `orbax.checkpoint.v1`."""
    try:
        from orbax.checkpoint import v1
    except ImportError:
        from orbax.checkpoint.experimental import v1
    return v1
