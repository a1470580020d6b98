"""Brings the store of a run what its folder holds, in the background of the training."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lm import processes
from lm.training.stored_run import CHECKPOINTS, METADATA
from lm.training.workdir import Workdir

_LAST = ('config.json', 'summary.json')
"""In this order behind all else: that a run has begun, and that it has ended."""
_POLL_SECONDS = 0.05


class Mirror:
    """Keeps a run's store in step with its folder; nothing to do for a run on a disk.

    The first process has a thread that puts what is asked for, one thing after another: the files
    that changed, whole, then the checkpoints that are new, each with its metadata last; then it
    removes those that the folder no longer holds. What a kill left of a checkpoint goes first. So
    whatever moment a kill comes at, the newest checkpoint that is there has all the rows of metrics
    up to its step beside it.
    """

    def __init__(self, workdir: Workdir):
        self._folder, self._stored = workdir.path, workdir.stored
        self._put: dict[str, tuple[int, int]] = {}
        self._steps: set[int] = set()
        if self._stored is not None:
            self._steps = set(self._stored.steps)
            self._put = dict(self._files())
            self._fetched, self._torn = set(self._put), self._stored.torn
        self._asked: queue.Queue[int | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._abandoned = False

    def begin(self) -> None:
        """Makes the store what the folder is now that a run begins or goes on.

        First goes what the folder no longer has, the summary before checkpoints and the latest of
        those first: killed in between, it is a run that stopped earlier.

        Raises:
          UserError: the store refuses.
        """
        if self._stored is None:
            return
        processes.from_first(self._begin)

    def push(self, step: int | None = None) -> None:
        """Asks for the changes to be put.

        Args:
          step: a checkpoint that is being written and goes along, as soon as it is whole.
        """
        if self._stored is None or not processes.is_first():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name='mirror', daemon=True)
            self._thread.start()
        self._asked.put(step)

    def wait(self) -> None:
        """Returns when the store has all that was asked for; every process calls it.

        Raises:
          UserError: the store refused.
        """
        if self._stored is not None:
            processes.from_first(self._settle)

    def close(self) -> None:
        """Puts what changed last, where a run ends by an error; by the first process alone.

        Raises:
          UserError: the store refuses.
        """
        self._abandoned = True  # a checkpoint that is not whole by now will not be
        self.push()
        self._settle()

    def _settle(self) -> None:
        self._asked.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            step = self._asked.get()
            try:
                if step is not None:
                    self._await(step)
                self._bring()
            except BaseException as error:  # told by the main thread, which waits
                self._error = self._error or error
            finally:
                self._asked.task_done()

    def _await(self, step: int) -> None:
        """Orbax gives a checkpoint its name when it is whole."""
        while not (self._folder / CHECKPOINTS / str(step)).exists() and not self._abandoned:
            time.sleep(_POLL_SECONDS)

    def _begin(self) -> None:
        assert self._stored is not None
        now = dict(self._files())
        gone = [name for name in self._fetched if name not in now]
        self._stored.store.remove(sorted(gone, key=lambda name: name not in _LAST))
        self._remove_steps()
        self._bring()

    def _bring(self) -> None:
        assert self._stored is not None
        self._stored.store.remove(self._torn)
        self._torn = []
        now = dict(self._files())
        changed = [name for name, state in now.items() if self._put.get(name) != state]
        self._put_files(name for name in changed if name not in _LAST)
        for step in self._steps_here():
            if step not in self._steps:
                self._put_step(step)
        for name in _LAST:
            self._put_files([name] if name in changed else [])
        self._put |= now
        self._remove_steps()

    def _put_files(self, names: Iterable[str]) -> None:
        assert self._stored is not None
        self._stored.store.put({name: self._folder / name for name in names})

    def _put_step(self, step: int) -> None:
        folder = self._folder / CHECKPOINTS / str(step)
        names = [p.relative_to(self._folder).as_posix() for p in folder.rglob('*') if p.is_file()]
        last = f'{CHECKPOINTS}/{step}/{METADATA}'
        self._put_files(name for name in names if name != last)
        self._put_files([last])
        self._steps.add(step)

    def _remove_steps(self) -> None:
        assert self._stored is not None
        here = self._steps_here()
        gone = sorted(self._steps.difference(here), reverse=True)
        if not gone:
            return
        there = self._stored.store.names()
        for step in gone:
            folder = f'{CHECKPOINTS}/{step}/'
            names = [name for name in there if name.startswith(folder)]
            self._stored.store.remove(sorted(names, key=lambda name: name != folder + METADATA))
            self._steps.discard(step)

    def _steps_here(self) -> list[int]:
        folder = self._folder / CHECKPOINTS
        if not folder.is_dir():
            return []
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name, and size and time, of each file outside the checkpoints."""
        for top in sorted(self._folder.iterdir()):
            if top.name == CHECKPOINTS:
                continue
            for path in sorted(top.rglob('*')) if top.is_dir() else [top]:
                if path.is_file() and not _is_temporary(path):
                    state = path.stat()
                    name = path.relative_to(self._folder).as_posix()
                    yield name, (state.st_size, state.st_mtime_ns)


def _is_temporary(path: Path) -> bool:
    """A file that becomes another when it is whole."""
    return '.tmp' in path.suffixes
