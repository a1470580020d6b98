"""A text while it is being decoded: what of it may be told already, and where it stops."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

REPLACEMENT = '\ufffd'
"""What a tokenizer says of bytes that are no whole character yet."""


class Growing:
    """The text that is added to one prompt.

    Attributes:
      text: what was told; at the end all that was added, without what made it stop.
      stopped: a stop string came.
    """

    def __init__(
        self, said: Callable[[Int[np.ndarray, ' _']], str], stops: Sequence[str] = ()
    ) -> None:
        """
        Args:
          said: the text of ids.
          stops: strings of which the first to be whole ends the text.
        """
        self._said, self._stops = said, stops
        self.text, self.stopped = '', False

    def grown(self, ids: Int[np.ndarray, ' _'], *, ended: bool) -> str:
        """What may be told now of all ids so far, and was not.

        While more is to come, the beginning of a stop string and of a character are held back.
        """
        if self.stopped:
            return ''
        text = self._said(ids)
        came = [
            (place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0
        ]
        if came:
            # That which was whole first, so that it does not matter how often one looks.
            self.stopped, text = True, text[: min(came)[1]]
        elif not ended:
            text = text[: len(text) - self._held_back(text)].rstrip(REPLACEMENT)
        piece = text[len(self.text) :]
        self.text += piece
        return piece

    def _held_back(self, text: str) -> int:
        """Letters at the end with which a stop string may begin."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, len(stop))
                if text.endswith(stop[:length])
            ),
            default=0,
        )
