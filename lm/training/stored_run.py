"""A run's folder in a store: which objects are its files, and a copy of them on a disk.

A checkpoint is there once its metadata are: they are put last and removed first, so one that a kill
cut short does not exist. A copy begins with the small files and the metadata of every checkpoint;
the arrays are fetched where they are read.
"""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeVar

from lm import processes
from lm.errors import UserError
from lm.storage import Store

T = TypeVar('T')

CHECKPOINTS = 'checkpoints'
METADATA = '_CHECKPOINT_METADATA'
"""The file of a checkpoint that Orbax keeps digests, record and all else of ours in."""
_LEFT_THERE = ('tensorboard', 'profile', 'damaged')
"""Folders that no run reads."""


class StoredRun:
    """The objects of a run, and a folder that is made a copy of them.

    Attributes:
      store: where they are.
      objects: bytes of each that was there when the copy was begun, by name.
    """

    def __init__(self, store: Store, copy: Path, *, shared: bool):
        """
        Args:
          store: of the run.
          copy: the folder; what is in it is removed.
          shared: all processes have this folder and the first of them makes the copy; else it is
            of this process alone.

        Raises:
          UserError: the store refuses, or the disk of the copy.
        """
        self.store, self._copy = store, copy
        self._shared = shared
        self.objects: dict[str, int] = self._once(self._begin)

    @property
    def steps(self) -> list[int]:
        """The steps whose checkpoints were whole when the copy was begun."""
        return sorted(step for name in self.objects if (step := step_of(name)) is not None)

    @property
    def torn(self) -> list[str]:
        """The objects of checkpoints that were never whole."""
        whole = tuple(f'{CHECKPOINTS}/{step}/' for step in self.steps)
        inside = (name for name in self.objects if name.startswith(f'{CHECKPOINTS}/'))
        return [name for name in inside if not name.startswith(whole)]

    def fetch(self, step: int, parts: tuple[str, ...] | None = None) -> None:
        """Completes a checkpoint of the copy.

        Args:
          step: one that the copy holds the metadata of.
          parts: what is needed of it, as `params`; None: everything.

        Raises:
          UserError: the store or the disk refuses.
        """
        self._once(lambda: self._fetch(step, parts))

    def release(self, step: int) -> None:
        """Removes the arrays of a checkpoint from a copy that is only read: they were read."""
        if not self._shared:
            for name in self.objects:
                if name.startswith(f'{CHECKPOINTS}/{step}/') and not _is_small(name):
                    (self._copy / name).unlink(missing_ok=True)

    def _once(self, act: Callable[[], T]) -> T:
        return processes.from_first(act) if self._shared else act()

    def _fetch(self, step: int, parts: tuple[str, ...] | None) -> None:
        folder = f'{CHECKPOINTS}/{step}/'
        lacking = []
        for name in self.objects:
            inside = PurePosixPath(name.removeprefix(folder))
            if not name.startswith(folder) or (self._copy / name).exists():
                continue
            if parts is None or len(inside.parts) == 1 or inside.parts[0] in parts:
                lacking.append(name)
        self.store.fetch({name: self._copy / name for name in lacking})

    def _begin(self) -> dict[str, int]:
        objects = self.store.names()
        try:
            # What an earlier run left there may be newer than what it could still put.
            if self._copy.exists():
                shutil.rmtree(self._copy)
            self._copy.mkdir(parents=True)
        except OSError as error:
            raise UserError(f'{self._copy}: cannot be made ({error.strerror})') from error
        self.store.fetch({name: self._copy / name for name in objects if _is_small(name)})
        return objects


def _is_small(name: str) -> bool:
    top = name.partition('/')[0]
    return step_of(name) is not None or top not in (CHECKPOINTS, *_LEFT_THERE)


def step_of(name: str) -> int | None:
    """The step whose checkpoint's metadata an object is; None of another."""
    folder, _, rest = name.partition('/')
    step, _, file = rest.partition('/')
    return int(step) if folder == CHECKPOINTS and file == METADATA and step.isdecimal() else None
