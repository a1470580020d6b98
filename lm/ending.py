"""The processes of a run end together: an error in one of them would leave the others waiting."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from lm import processes

_LISTEN_SECONDS = 1.0
_OWN_WORDS_SECONDS = 5.0
"""Time for a process to end by the same error itself."""


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """A context in which an error of one process ends all; to be entered by each of them.

    The others wait for the one in the middle of a step, where nothing can be raised: a thread
    hears of the error, says in one line where it was, and ends the process with status 2.
    """
    if processes.count() == 1:
        yield
        return
    ended, notice = threading.Event(), processes.Notice()
    listening = threading.Thread(target=_listen, args=(notice, ended), daemon=True)
    listening.start()
    try:
        yield
    except Exception as error:
        ended.set()
        notice.give(f'process {processes.index()}: {str(error).partition(chr(10))[0]}')
        raise
    except KeyboardInterrupt:
        ended.set()
        notice.give(f'process {processes.index()}: interrupted')
        raise
    finally:
        ended.set()
        listening.join()  # a thread in the middle of a call would abort Python's end


def _listen(notice: processes.Notice, ended: threading.Event) -> None:
    while not ended.wait(_LISTEN_SECONDS):
        words = notice.read()
        if words is None:
            continue
        if not ended.wait(_OWN_WORDS_SECONDS):
            print(f'lm: {words}', file=sys.stderr, flush=True)
            processes.disconnect()
            os._exit(2)
        return
