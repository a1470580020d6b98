"""The one kind of error that a user can cause and mend."""

import contextlib
import re
from collections.abc import Iterator, Mapping


class UserError(ValueError):
    """A mistake in a flag, a config field or a file, told in one line.

    The message names the field or file, the value it had and what would be right. The command
    line prints it as it is and exits with status 2; in a notebook it is an ordinary exception.
    """

    def __init__(self, message: str):
        super().__init__(' '.join(message.split()))


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    """`; did you mean X?` for the closest of `known`, or the list when nothing is close."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean {close[0]}?'
    return f'; one of {", ".join(known)}' if known else ''


@contextlib.contextmanager
def naming(given_in: Mapping[str, str]) -> Iterator[None]:
    """Lets errors from within name where the user gave a value, not where the code read it.

    Args:
      given_in: by the field that errors name, such as `data.source`, the flag or field to name.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for field, given in given_in.items():
            message = re.sub(rf'\b{re.escape(field)}\b', given, message)
        raise UserError(message) from None
