"""What a model that knows nothing scores, and how sure a score is."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from lm.evaluation.in_context.records import Question

NORMAL_95 = 1.959963984540054
"""The normal distribution's 97.5 % point."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent questions (Wilson 1927).

    Unlike the normal one it stays within [0, 1], and has a width where the share is 0 or 1.
    """
    z2 = NORMAL_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(middle - half / (1 + z2 / count), 0.0), min(middle + half / (1 + z2 / count), 1.0)


def choice_baselines(
    questions: Sequence[Question], lengths: Sequence[Int[np.ndarray, ' _']]
) -> dict[str, float]:
    """Accuracies of rules that read no question.

    Args:
      questions: with choices.
      lengths: tokens of each question's choices.

    Returns:
      `chance`; `shortest` and `longest`, by tokens, where as many that are equally long count in
      equal parts; `majority`, always the place that is right most often.
    """
    places = Counter(question.gold for question in questions)
    pairs = list(zip(questions, lengths, strict=True))
    return {
        'chance': _mean([1 / len(question.choices) for question in questions]),
        'shortest': _mean([_share(question, n_C == n_C.min()) for question, n_C in pairs]),
        'longest': _mean([_share(question, n_C == n_C.max()) for question, n_C in pairs]),
        'majority': max(places.values()) / len(questions),
    }


def answer_baselines(
    questions: Sequence[Question], normalised: Callable[[str], str]
) -> dict[str, float]:
    """`majority`: the accuracy of always saying what is right most often."""
    right = Counter(
        text for question in questions for text in {normalised(a) for a in question.answers}
    )
    return {'majority': max(right.values()) / len(questions)}


def _share(question: Question, taken_C: np.ndarray) -> float:
    return float(taken_C[question.gold]) / int(taken_C.sum())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
