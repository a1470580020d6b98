"""Checkpoints of a run under way: written by Orbax in the background, kept, set aside, removed.

Every process calls all of it, and writes what its devices hold.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lm import processes
from lm.config import CheckpointConfig
from lm.errors import UserError
from lm.training.digest import by_path, digests
from lm.training.saved import (
    FORMAT_VERSION,
    Damaged,
    SavedStates,
    checksum,
    filled,
    is_refusal,
    orbax,
    shape_words,
    told,
)  # fmt: skip
from lm.training.step import State
from lm.training.stored_run import StoredRun


class Checkpoints(SavedStates):
    """The checkpoints of a run under way, which saves, sets aside and removes some.

    Which are kept: the newest `keep_latest`, multiples of `keep_every_steps`, and `always`.
    """

    def __init__(
        self,
        directory: Path,
        config: CheckpointConfig,
        always: Iterable[int] = (),
        stored: StoredRun | None = None,
    ):
        super().__init__(directory, stored)
        policies = orbax().training.preservation_policies
        keep = [policies.LatestN(config.keep_latest), policies.CustomSteps([*always])]
        if config.keep_every_steps is not None:
            keep.append(policies.EveryNSteps(config.keep_every_steps))
        try:
            self._checkpointer = orbax().training.Checkpointer(
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
            path: {'shape': shape_words(x), 'digest': found[path]}
            for path, x in by_path(tree).items()
        }
        body = {'format_version': FORMAT_VERSION, 'leaves': leaves, 'record': record}
        try:
            self._checkpointer.save_checkpointables_async(
                step, filled(tree), force=True,
                custom_metadata={**body, 'sha256': checksum(body)},
            )  # fmt: skip
        except (OSError, ValueError) as error:
            if not is_refusal(error):
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
            if not is_refusal(error):
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
                processes.tell(
                    f'lm: checkpoint {damaged} is damaged ({why}), set aside; '
                    f'going on from the one before, step {step}'
                )
            return found
        if damage:
            last, why = next(iter(damage.items()))
            raise UserError(
                f'workdir {self._owner}: all checkpoints are damaged (step {last}: '
                f'{why}); nothing was changed: put a good copy in place, or give another workdir'
            )
        return None

    def _set_aside(self, step: int) -> None:
        """Moves the directory of a step out of Orbax's sight."""
        if processes.is_first():
            aside = self._directory.parent / 'damaged'
            aside.mkdir(exist_ok=True)
            target = aside / str(step)
            shutil.rmtree(target, ignore_errors=True)
            (self._directory / str(step)).rename(target)
        processes.wait_for_all()
        self._checkpointer.reload()

    def delete_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, the last one first.

        Raises:
          UserError: one cannot be removed.
        """
        later_steps = processes.from_first(lambda: [s for s in self.steps if s > step])
        for later in reversed(later_steps):
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
            f'({told(error)}); free some space: the same command {kept}'
        )
