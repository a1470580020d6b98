"""Signals: SIGTERM and the first Ctrl-C ask the loop to save and stop, the second quits."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType

_STDERR = 2


class Interrupt:
    """A context in which SIGTERM and SIGINT set `signal_number` instead of ending the process.

    A Ctrl-C after either raises KeyboardInterrupt. Outside the main thread, where Python allows no
    handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, object] = {}

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
        if number == signal.SIGINT and self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
        name = signal.Signals(number).name
        words = f'\nlm: {name}: saving after this step; Ctrl-C quits at once\n'
        with contextlib.suppress(OSError):
            # Not by print: the signal may have come in the middle of one, which forbids another.
            os.write(_STDERR, words.encode())
