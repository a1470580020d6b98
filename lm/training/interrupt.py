"""What ends a loop early: SIGTERM, the first Ctrl-C (the second quits), or time being over."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Literal

from lm import processes

Reason = int | Literal['hours']

_STDERR = 2
_STEPS_TO_HEAR = 2
"""With n + 2 steps taken a process has read the metrics of step n + 1, in which all took part: by
then it hears what any other told with n steps taken."""


class Interrupt:
    """A context in which SIGTERM and SIGINT ask for the end instead of ending the process.

    A Ctrl-C after either raises KeyboardInterrupt. Outside the main thread, where Python allows no
    handlers, it does nothing.

    Attributes:
      stopped_by: the signal's number, or `hours`; None as long as nothing stops.
    """

    def __init__(self) -> None:
        self.stopped_by: Reason | None = None
        self._received: Reason | None = None
        self._notice = processes.Notice() if processes.count() > 1 else None
        self._before: dict[int, object] = {}

    def stops(self, step: int) -> bool:
        """Whether to take no step after `step`, asked before each; all processes hear the same.

        What one process receives stops all of them two steps later.
        """
        if self._notice is None:
            self.stopped_by = self._received
            return self.stopped_by is not None
        if self._received is not None:
            self._notice.give([step + _STEPS_TO_HEAR, self._received])
        last, reason = self._notice.read() or (None, None)
        if last is None or step < last:
            return False
        self.stopped_by = reason
        return True

    def time_is_over(self) -> None:
        """Asks for the end as a signal does; one that came before counts."""
        if self._received is None:
            self._received = 'hours'

    def __enter__(self) -> 'Interrupt':
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and isinstance(self._received, int):
            raise KeyboardInterrupt
        self._received = number
        name = signal.Signals(number).name
        words = f'\nlm: {name}: saving after this step; Ctrl-C quits at once\n'
        with contextlib.suppress(OSError):
            # Not by print: the signal may have come in the middle of one, which forbids another.
            os.write(_STDERR, words.encode())
