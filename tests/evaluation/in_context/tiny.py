"""Questions of single letters: a token is a letter, so lengths are known."""

import dataclasses

from lm.evaluation.in_context.records import Question
from lm.evaluation.in_context.task import Task
from lm.evaluation.in_context.template import template

CHOOSES = Task('chooses', template('{query}', 'prompt'), choices='choices', gold='gold')
LINES = dataclasses.replace(CHOOSES, separator=' . ')
"""The letters have no line end."""


def question(prompt: str, *choices: str, gold: int = 0) -> Question:
    return Question(f'here:{prompt}', prompt, choices, gold, (choices[gold],))


def questions(count: int) -> list[Question]:
    """Of prompts of 4 letters, no two of them alike, and choices of 1 and 3."""
    letters = 'abcdefghijklmnopqrstuvwxyz'
    return [
        question(f'{letters[i // 26]}{letters[i % 26]} q', 'x', 'xyz', gold=i % 2)
        for i in range(count)
    ]
