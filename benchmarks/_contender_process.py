"""A contender in a process of its own, told over pipes when it is its turn.

`python -m benchmarks._contender_process` reads one request a line on stdin, JSON, and answers each
with one line on stdout: the first builds it, then `compile`, `warm`, `steps` and `facts`. It ends
with its stdin. What libraries print goes to stderr.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lm.errors import UserError

from ._cases import Case

WARM_STEPS = 5  # a CPU step's memory has grown by then; one more tells how many make a turn
TOLD_LINES = 5


class Failed(Exception):
    """The contender is no more; the message is the end of what it said."""


class Contender:
    """This side of the pipes.

    Attributes:
      name: of its file.
      seconds: about what a step takes, once it is warm.
    """

    def __init__(
        self, name: str, case: Case, words: list[str], environment: dict[str, str]
    ) -> None:
        """Starts it; `words` are flags of `lm` alone."""
        self.name = name
        self.seconds = 0.0
        self._errors = tempfile.TemporaryFile('w+')  # noqa: SIM115 (`end` closes it)
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks._contender_process'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, **environment}, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        self.ask({'build': name, 'case': asdict(case), 'words': words})

    def ask(self, request: dict[str, Any]) -> None:
        """Sends a request; `answer` waits for what comes of it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            self._raise()

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest request that has none yet.

        Raises:
          Failed: the process ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._raise()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _raise(self) -> None:
        self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        raise Failed(f'{self.name}: ' + '\n'.join(lines[-TOLD_LINES:]))

    def warm(self) -> None:
        """Makes the state and takes the first steps."""
        self.ask({'warm': WARM_STEPS})
        self.seconds = self.answer()['seconds']

    def turn(self, seconds: float) -> float:
        """Seconds a step, over as many steps as take about so long, at least 3."""
        steps = max(3, round(seconds / self.seconds))
        self.ask({'steps': steps})
        return self.answer()['seconds'] / steps

    def end(self) -> None:
        """Ends it, and with it what it holds of the device."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def _serve() -> None:
    """The other side."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    steps: Any = None
    for line in sys.stdin:
        ask = json.loads(line)
        answer: dict[str, Any] = {}
        if 'build' in ask:
            from .contenders import build

            steps = build(ask['build'], Case(**ask['case']), ask['words'])
            continue
        assert steps is not None, 'build comes first'
        if 'compile' in ask:
            steps.compile()
        if 'warm' in ask:
            steps.take(ask['warm'])
            answer['seconds'] = _seconds(steps, 1)
        if 'steps' in ask:
            answer['seconds'] = _seconds(steps, ask['steps'])
        if 'facts' in ask:
            answer = steps.facts
        answers.write(json.dumps(answer) + '\n')
        answers.flush()


def _seconds(steps: Any, number: int) -> float:
    begin = time.perf_counter()
    steps.take(number)
    return time.perf_counter() - begin


if __name__ == '__main__':
    try:
        _serve()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
