"""Solved examples before a question: which ones, and how many the model's context has room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm.errors import UserError
from lm.evaluation.in_context.choices import continuations
from lm.evaluation.in_context.records import Question
from lm.evaluation.in_context.task import Task
from lm.generation.begin import begin
from lm.generation.language_model import LanguageModel


@dataclass(frozen=True)
class Shots:
    """Examples for each question, drawn from the other ones.

    Those of a question depend on the pool, the seed and the question's number alone, and K of them
    are the first K of K + 1: so a model is asked with more shots what it was asked with fewer.

    Attributes:
      pool: questions to draw from.
      seed: of all draws.
    """

    pool: Sequence[Question]
    seed: int

    def drawn(self, question: Question, number: int, count: int) -> list[Question]:
        """`count` examples for a question, never one that asks the same.

        Args:
          question: what is asked.
          number: of the question in its file, from 0.
          count: K.

        Raises:
          UserError: there are fewer others.
        """
        order = np.random.default_rng((self.seed, number)).permutation(len(self.pool))
        others = (self.pool[i] for i in order if self.pool[i].prompt != question.prompt)
        found = [other for other, _ in zip(others, range(count), strict=False)]
        if len(found) < count:
            raise UserError(
                f'--num_shots={count}: {question.place} has only {len(found)} other records to '
                'draw from; lower it, or give more by --shots_data'
            )
        return found


def context_of(task: Task, question: Question, shots: Sequence[Question]) -> str:
    """The examples with their answers and the question without, as the model reads them."""
    solved = [shot.solved(task.delimiter) for shot in shots]
    return task.separator.join([*solved, question.prompt])


class Fitted(NamedTuple):
    """A question with as many of its examples as fit.

    Attributes:
      context: all that comes before the answer.
      shots: how many examples there are in it.
      length: tokens of the model's longer side with the longest answer.
    """

    context: str
    shots: int
    length: int


Length = Callable[[str, Question], int]
"""Tokens of the model's longer side for a context and a question's longest answer."""


def length_with_choices(model: LanguageModel, task: Task) -> Length:
    """The length where choices are scored."""

    def length(context: str, question: Question) -> int:
        texts = [task.delimiter + choice for choice in question.choices]
        return max(one.length for one in continuations(model, context, texts))

    return length


def length_with_answer(model: LanguageModel, max_new_tokens: int) -> Length:
    """The length where an answer is written; the last token of it is not read."""

    def length(context: str, question: Question) -> int:
        del question
        begun = begin(model, context, fill=False)
        said = len(begun.given) + max_new_tokens - 1
        return said if begun.source is None else max(said, len(begun.source))

    return length


def fitted(
    task: Task,
    questions: Sequence[Question],
    shots: Shots,
    num_shots: int,
    length: Length,
    most: int,
    *,
    as_many_as_fit: bool,
) -> list[Fitted]:
    """Each question behind its examples; nothing is cut.

    Args:
      task: says how examples are written.
      questions: the first of a file.
      shots: where examples come from.
      num_shots: K.
      length: of a question behind its context.
      most: tokens that the model reads.
      as_many_as_fit: where K do not fit, take fewer; else refuse.

    Raises:
      UserError: a question that does not fit by itself, or K examples that do not, by their number.
    """
    found = []
    for number, question in enumerate(questions):
        drawn = shots.drawn(question, number, num_shots)
        for count in range(num_shots, -1, -1):
            context = context_of(task, question, drawn[:count])
            if (tokens := length(context, question)) <= most:
                found.append(Fitted(context, count, tokens))
                break
        else:
            raise UserError(
                f'{question.place}: {tokens} tokens with its longest answer do not fit in '
                f'model.max_positions={most}; leave it out, or take a model of a longer context'
            )
    fewest = min(one.shots for one in found)
    if fewest < num_shots and not as_many_as_fit:
        short = [i for i, one in enumerate(found) if one.shots < num_shots]
        raise UserError(
            f'--num_shots={num_shots}: do not fit in model.max_positions={most} before '
            f'{len(short)} of {len(found)} questions ({questions[short[0]].place} is the first); '
            f'{fewest} fit before all: give --num_shots={fewest}, or --shots_that_fit'
        )
    return found
