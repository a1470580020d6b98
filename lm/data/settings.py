"""JSON files beside a tokenizer, each key of the type that it must have."""

import json
from typing import Any

from lm.errors import UserError


class Settings:
    """A JSON object; null is as good as missing, a value of a wrong type is refused."""

    def __init__(self, data: bytes, words: str):
        """
        Args:
          data: the file.
          words: what names it in an error.

        Raises:
          UserError: it holds no JSON object.
        """
        self._words = words
        try:
            tree = json.loads(data)
        except ValueError as error:
            raise UserError(f'{words}: is not JSON ({error})') from None
        except RecursionError:
            raise UserError(f'{words}: is not JSON of a tokenizer: nested too deeply') from None
        if not isinstance(tree, dict):
            raise UserError(f'{words}: is not a JSON object')
        self.tree: dict[str, Any] = tree

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self.tree.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.refusal(key, value, 'true or false')

    def count(self, key: str, most: int) -> int | None:
        """A whole number from 0 to `most`."""
        value = self.tree.get(key)
        if value is None or (_is_whole(value) and 0 <= value <= most):
            return value
        raise self.refusal(key, value, f'a whole number from 0 to {most}')

    def first_id(self, key: str) -> int | None:
        """An id, or the first of a list of them."""
        value = self.tree.get(key)
        first = (value or [None])[0] if isinstance(value, list) else value
        if first is None or _is_whole(first):
            return first
        raise self.refusal(key, value, 'an id or a list of ids')

    def token(self, key: str) -> str | None:
        """The text of a token; none where it is empty."""
        value = self.tree.get(key)
        return None if value is None else self._text(key, value) or None

    def tokens(self, key: str) -> list[str]:
        """The texts of a list of tokens."""
        return [self._text(key, value) for value in self._list(key)]

    def ids_of_tokens(self) -> dict[str, int]:
        """The ids in a file that is `{token: id}`."""
        return {
            self._text(token, token): self._id(token, number) for token, number in self.tree.items()
        }

    def listed_tokens(self, key: str) -> dict[str, int]:
        """The ids of tokens that are a list of objects with `id` and `content`."""
        found = {}
        for value in self._list(key):
            if not isinstance(value, dict):
                raise self.refusal(key, value, 'an object with id and content')
            found[self._text(key, value)] = self._id(f'{key}.id', value.get('id'))
        return found

    def numbered_tokens(self, key: str) -> dict[str, int]:
        """The ids of tokens that are an object `{"id": token}`."""
        value = self.tree.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refusal(key, value, 'an object of tokens by id')
        found = {}
        for number, token in (value or {}).items():
            digits = number.isascii() and number.isdecimal() and len(number) < _MOST_DIGITS
            found[self._text(f'{key}.{number}', token)] = self._id(
                f'{key}.{number}', int(number) if digits else number
            )
        return found

    def refusal(self, key: str, value: Any, instead: str) -> UserError:
        """What says that a value is not supported, and what would be."""
        try:
            shown = f'{_short(key)}={_short(repr(value))}'
        except RecursionError:
            shown = f'{_short(key)}=...'
        return UserError(f'{self._words}: {shown} is not supported; it must be {instead}')

    def _list(self, key: str) -> list[Any]:
        value = self.tree.get(key)
        if value is None or isinstance(value, list):
            return value or []
        raise self.refusal(key, value, 'a list of tokens')

    def _text(self, key: str, value: Any) -> str:
        """The text of a token, which some files write as an object of its settings."""
        text = value.get('content') if isinstance(value, dict) else value
        # Half a surrogate pair is JSON, but no text.
        if isinstance(text, str) and text.encode(errors='replace').decode() == text:
            return text
        raise self.refusal(key, value, 'a token: a text, or an object with content')

    def _id(self, key: str, value: Any) -> int:
        if _is_whole(value) and value >= 0:
            return int(value)
        raise self.refusal(key, value, 'an id, a whole number')


_MOST_DIGITS = 18
_MOST_SHOWN = 60


def _short(text: str) -> str:
    printable = text.encode(errors='backslashreplace').decode().replace('\n', ' ')
    return printable if len(printable) <= _MOST_SHOWN else printable[:_MOST_SHOWN] + ' ...'


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
