"""Answers within their context: checked against its text, found among its ids, cut into windows."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from lm.errors import UserError

NOWHERE = (-1, -1)
"""First and last id of an answer that there is not: in no window."""


class Answer(NamedTuple):
    """A text, and the character of its context at which it begins."""

    text: str
    start: int


def listed_answers(value: Any, context: str, field: str, place: str) -> list[Answer]:
    """The answers to a question, checked; none where it has no answer.

    Args:
      value: `{'text': [...], 'answer_start': [...]}` as TFDS has SQuAD's, or a list of objects with
        these two, as SQuAD's files have.
      context: the text that they are in.
      field: the setting that names the field, and its value, for errors.
      place: file and line, for errors.

    Raises:
      UserError: the field holds other than that, or an answer is not what its context has there.
    """
    try:
        if isinstance(value, list):
            answers = [Answer(answer['text'], answer['answer_start']) for answer in value]
        else:
            pairs = zip(value['text'], value['answer_start'], strict=True)
            answers = [Answer(*pair) for pair in pairs]
        whole = all(isinstance(a.text, str) and type(a.start) is int for a in answers)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(
            f'{field}: {place} holds other than texts and the characters that they begin at, '
            '{"text": [...], "answer_start": [...]}'
        )
    for text, start in answers:
        if not text.strip():
            raise UserError(f'{field}: {place} has an answer of nothing but blanks; remove it')
        if start < 0 or start + len(text) > len(context):
            raise UserError(
                f'{field}: {place} has the answer {text!r} at character {start}, outside its '
                f'context of {len(context)} characters; mend or remove it'
            )
        if (found := context[start : start + len(text)]) != text:
            raise UserError(
                f'{field}: {place} has the answer {text!r} at character {start}, where its context '
                f'has {found!r}; mend or remove it'
            )
    return answers


def ids_of(
    answer: Answer, spans_n2: Int[np.ndarray, 'n 2'], field: str, place: str
) -> tuple[int, int]:
    """The first and the last id that stand for a character of an answer.

    Args:
      answer: within the text.
      spans_n2: the characters of each id of the text.
      field: the setting that names the field, and its value, for errors.
      place: file and line, for errors.

    Raises:
      UserError: there is none.
    """
    begins_n, stops_n = spans_n2.T
    within_n = (stops_n > answer.start) & (begins_n < answer.start + len(answer.text))
    (ids,) = np.nonzero(within_n & (begins_n < stops_n))
    if not len(ids):
        raise UserError(
            f'{field}: {place} has the answer {answer.text!r}, which no token stands for; another '
            'data.tokenizer may read it'
        )
    return int(ids[0]), int(ids[-1])


def cut_windows(length: int, window: int | None, stride: int) -> list[tuple[int, int]]:
    """From which to before which id each window of a text runs; the last one reaches its end.

    Args:
      length: of the text.
      window: ids in each but the last; None: all, in one.
      stride: from one's beginning to the next one's, at most `window`.
    """
    width = window or length
    begins = range(0, max(length - width + stride - 1, 0) + 1, stride)
    return [(begin, min(begin + width, length)) for begin in begins]
