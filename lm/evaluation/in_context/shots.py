"""Solved examples before a question: which ones, and how many the model's context has room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm.errors import UserError
from lm.evaluation.in_context.choices import Continuation, continuations
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
        others = (self.pool[i] for i in order if not _same(self.pool[i], question))
        found = [other for other, _ in zip(others, range(count), strict=False)]
        if len(found) < count:
            raise UserError(
                f'--num_shots={count}: {question.place} has only {len(found)} other records to '
                'draw from; lower it, or give more by --shots_data'
            )
        return found


def _same(one: Question, other: Question) -> bool:
    """Whether two questions ask the same: of minimal pairs the choices alone tell them apart."""
    return (one.prompt, one.choices) == (other.prompt, other.choices)


def context_of(task: Task, question: Question, shots: Sequence[Question]) -> str:
    """The examples with their answers and the question without, as the model reads them."""
    solved = [shot.solved(task.delimiter) for shot in shots]
    return task.separator.join([*solved, question.prompt])


class Fitted(NamedTuple):
    """A question with as many of its examples as fit.

    Attributes:
      context: all that comes before the answer.
      shots: how many examples there are in it.
      asked: the answers behind it: each choice, or room for one that is to be written.
    """

    context: str
    shots: int
    asked: list[Continuation]

    @property
    def length(self) -> int:
        """Tokens of the model's longer side with the longest answer."""
        return longest(self.asked)


Asking = Callable[[str, Question], list[Continuation]]
"""What is asked of the model behind a context: `Fitted.asked`."""


def asking_choices(model: LanguageModel, task: Task) -> Asking:
    """Where choices are scored."""

    def asked(context: str, question: Question) -> list[Continuation]:
        texts = [task.delimiter + choice for choice in question.choices]
        return continuations(model, context, texts)

    return asked


def asking_to_write(model: LanguageModel, max_new_tokens: int) -> Asking:
    """Where an answer is written: nothing but its room counts."""

    def asked(context: str, question: Question) -> list[Continuation]:
        del question
        return [to_write(model, context, max_new_tokens)]

    return asked


def to_write(model: LanguageModel, context: str, max_new_tokens: int) -> Continuation:
    """An answer that is to be written: room for it."""
    return Continuation(begin(model, context, fill=False), np.zeros(max_new_tokens, np.int32))


def longest(asked: Sequence[Continuation]) -> int:
    """Tokens of the longer side of the longest."""
    return max(one.length for one in asked)


def fitted(
    task: Task,
    questions: Sequence[Question],
    shots: Shots,
    num_shots: int,
    asking: Asking,
    most: int,
    *,
    shots_that_fit: bool,
    questions_that_fit: bool,
) -> list[Fitted | None]:
    """Each question behind its examples; nothing is cut.

    Args:
      task: says how examples are written.
      questions: the first of a file.
      shots: where examples come from.
      num_shots: K.
      asking: what is asked behind a context.
      most: tokens that the model reads.
      shots_that_fit: where K do not fit, take fewer; else refuse.
      questions_that_fit: None for a question that does not fit by itself; else refuse.

    Raises:
      UserError: a question that does not fit by itself, or K examples that do not, by their number.
    """
    found = []
    for number, question in enumerate(questions):
        drawn = shots.drawn(question, number, num_shots)
        found.append(_most_shots(task, question, drawn, asking, most))
        if found[-1] is None and not questions_that_fit:
            tokens = longest(asking(context_of(task, question, []), question))
            raise UserError(
                f'--task_data={question.place}: {tokens} tokens with its longest answer do not fit '
                f'in model.max_positions={most}; take a model of a longer context, or give '
                '--questions_that_fit'
            )
    counts = {i: one.shots for i, one in enumerate(found) if one is not None}
    if not counts:
        raise UserError(f'--task_data: no question fits in model.max_positions={most}')
    short = [i for i, count in counts.items() if count < num_shots]
    if short and not shots_that_fit:
        fewest = min(counts.values())
        raise UserError(
            f'--num_shots={num_shots}: do not fit in model.max_positions={most} before '
            f'{len(short)} of {len(counts)} questions ({questions[short[0]].place} is the first); '
            f'{fewest} fit before all: give --num_shots={fewest}, or --shots_that_fit'
        )
    return found


def _most_shots(
    task: Task, question: Question, drawn: Sequence[Question], asking: Asking, most: int
) -> Fitted | None:
    """The question behind as many of the first examples as fit; None: not even without any."""
    for count in range(len(drawn), -1, -1):
        context = context_of(task, question, drawn[:count])
        asked = asking(context, question)
        if longest(asked) <= most:
            return Fitted(context, count, asked)
    return None
