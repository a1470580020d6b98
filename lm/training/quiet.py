"""Keeps off stderr what Orbax and TensorStore print of a failed save, which they raise as well.

A full disk would otherwise bury the one line that says so under some thousand lines of tracebacks.
"""

import functools
import logging
import os
import sys
from typing import Any


class _NotRaised(logging.Filter):
    """Drops Orbax's log records that carry an exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and f'{os.sep}orbax{os.sep}' in record.pathname)


_FILTER = _NotRaised()


@functools.cache
def quieten() -> None:
    """Installs a filter on absl's logger and a hook for TensorStore's callbacks, once."""
    logging.getLogger('absl').addFilter(_FILTER)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # The first write that fails ends Orbax's event loop; each later one's callback, from C++,
        # finds it closed.
        if str(unraisable.exc_value) != 'Event loop is closed':
            before(unraisable)

    sys.unraisablehook = hook
