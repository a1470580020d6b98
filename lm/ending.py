"""The processes of a run end together: without one of them the others would wait for ever."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from lm import processes

DIED = 75
"""Exit status where another process died: nobody's mistake, the same command goes on."""
_LISTEN_SECONDS = 0.5
_ASK_SECONDS = 1.0
"""Between two questions who is alive: a process that ends waits so long for the last answer."""
_UNANSWERED_SECONDS = 15.0
"""Of a process 0 that stands still; before JAX's own patience ends, in a native stack trace."""
_OWN_WORDS_SECONDS = 5.0
"""Time for a process to end by the same error itself."""
_VERDICT_SECONDS = processes.SILENT_SECONDS + 15.0
"""By when it is known that another process died, and that this was why a step failed here."""
_LEAVE_SECONDS = 40.0
_LINGER_SECONDS = 2.0
"""For which process 0 stays, so that the others hear through it what it heard."""
_GOES_ON = 'the same command goes on from the last checkpoint'


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """A context in which the end of one process ends all; to be entered by each of them.

    The others wait for the one in the middle of a step, where nothing can be raised: a thread
    hears of an error, or that a process died, says so in one line, and ends this process.
    """
    if processes.count() == 1:
        yield
        return
    watch = _Watch()
    try:
        yield
    except Exception as error:
        watch.judge(error)
        watch.tell(str(error).partition('\n')[0])
        raise
    except KeyboardInterrupt:
        watch.tell('interrupted')
        raise
    finally:
        watch.leave()


class _Watch:
    """Threads that hear what others tell, ask who is alive, and see the line to process 0 break.

    The first two wait for answers of process 0, so neither of them can be the third.
    """

    def __init__(self) -> None:
        self._notice, self._own = processes.Notice(), processes.index()
        self._leaving, self._left = threading.Event(), threading.Event()
        self._unanswered = 0
        self._ending = threading.Lock()
        tasks = (self._listen, self._ask, self._hold)
        self._threads = [threading.Thread(target=task, daemon=True) for task in tasks]
        for thread in self._threads:
            thread.start()

    def judge(self, error: Exception) -> None:
        """Ends this process if `error` came of another one's death; may take half a minute.

        What computes together fails here at once when another process dies, long before that is
        known for sure.
        """
        from jax.errors import JaxRuntimeError

        if isinstance(error, JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
            time.sleep(_VERDICT_SECONDS)  # meanwhile a thread ends this process

    def tell(self, words: str) -> None:
        """Tells the others why this process ends."""
        self._notice.give(f'process {self._own}: {words}')

    def leave(self) -> None:
        """Leaves the others in peace. Process 0, which all speak through, leaves last."""
        processes.say_goodbye()
        self._leaving.set()
        *asking, holding = self._threads
        for thread in asking:
            # One in the middle of a call would abort Python's end.
            thread.join(_LEAVE_SECONDS)
        processes.disconnect()
        self._left.set()
        holding.join()

    def _listen(self) -> None:
        while not self._leaving.wait(_LISTEN_SECONDS):
            words = self._notice.read()
            self._unanswered = 0
            if words is not None:
                if not self._leaving.wait(_OWN_WORDS_SECONDS):
                    self._end(words, 2)
                return

    def _ask(self) -> None:
        """Asks until this process leaves; process 0 until all others have left."""
        everyone = set(range(processes.count()))
        alive = everyone
        while not self._leaving.wait(_ASK_SECONDS) or (self._own == 0 and alive != {0}):
            if self._leaving.is_set():
                time.sleep(_ASK_SECONDS)
            alive = processes.alive()
            dead = [i for i in sorted(everyone - alive) if not processes.has_left(i)]
            if dead and not self._leaving.is_set():
                names = ', '.join(map(processes.name_of, dead))
                silent = f'not heard of for {processes.SILENT_SECONDS} s'
                self._end(f'{names} died: {silent}; {_GOES_ON}', DIED)

    def _hold(self) -> None:
        while not self._left.wait(_LISTEN_SECONDS):
            why = ''
            if processes.lost_first():
                why = 'its connection broke'
            elif not self._leaving.is_set():
                # Counted, not timed: while something keeps all threads from running none can hear.
                self._unanswered += 1
                if self._unanswered * _LISTEN_SECONDS >= _UNANSWERED_SECONDS:
                    why = f'no answer for {_UNANSWERED_SECONDS:.0f} s'
            if why:
                self._end(f'{processes.name_of(0)} died: {why}; {_GOES_ON}', DIED)

    def _end(self, words: str, status: int) -> None:
        with self._ending:  # which is not given back: one thread speaks
            print(f'lm: {words}', file=sys.stderr, flush=True)
            if self._own == 0:
                time.sleep(_LINGER_SECONDS)
            elif status != DIED:
                processes.say_goodbye()
                processes.disconnect()
            os._exit(status)
