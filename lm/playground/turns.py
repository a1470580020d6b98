"""Who asks the model waits for a turn: one is answered at a time, in the order of asking."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.inspection.attention import AttentionMap, maps_of
from lm.playground.answer import Answer, Settings, answer

FRACTIONS = ('temperature', 'top_p')
"""Settings that are no whole numbers."""


class Turn:
    """A prompt that waits for its answer, or is being answered.

    Attributes:
      begun: its turn has come.
      text: what there is of the answer.
      done: the answer, or the error, once there is one.
    """

    def __init__(self) -> None:
        self.begun, self.text = False, ''
        self.done: Future[Answer] = Future()
        self._stop = Event()

    def stop(self) -> None:
        """No token comes after the next; before its turn, none at all."""
        self._stop.set()
        self.done.cancel()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def hear(self, text: str) -> None:
        """The text is this now."""
        self.begun, self.text = True, text


class Turns:
    """A model, and those who ask it."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._worker = ThreadPoolExecutor(1, 'model')
        self._open: set[Turn] = set()

    def ask(self, prompt: str, settings: Settings) -> Turn:
        """Puts a prompt behind those that wait."""
        turn = Turn()
        self._open.add(turn)
        turn.done = self._worker.submit(self._answer, turn, prompt, settings)
        turn.done.add_done_callback(lambda _: self._open.discard(turn))
        return turn

    def maps(self, of: Answer, layer: int) -> 'Future[list[AttentionMap]]':
        """Where a layer looked while it read what the answer has read, when the turn comes."""
        return self._worker.submit(maps_of, self.model, of.read, [layer])

    def close(self) -> None:
        """Stops who is being answered, and lets nobody wait."""
        for turn in [*self._open]:
            turn.stop()
        self._worker.shutdown(cancel_futures=True)

    def _answer(self, turn: Turn, prompt: str, settings: Settings) -> Answer:
        turn.hear(prompt)
        return answer(self.model, prompt, settings, on_text=turn.hear, stopped=lambda: turn.stopped)


def settings_of(values: Mapping[str, float | None]) -> Settings:
    """The settings that number boxes hold.

    Raises:
      UserError: one is empty or out of its range, or has a fraction where there is none.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            raise UserError(f'{name}: empty; give a number')
        if name in FRACTIONS:
            given[name] = float(value)
        elif float(value).is_integer():
            given[name] = int(value)
        else:
            raise UserError(f'{name}={value:g}: must be a whole number')
    return Settings(**given)
