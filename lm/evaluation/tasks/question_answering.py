"""Answers in a text: SQuAD's exact match and F1 of words, as shares, not percentages.

Both follow SQuAD 2.0's own script (Rajpurkar et al. 2018), of which 1.1's is a part: texts are
lower-cased, punctuation and English articles left out and blanks joined; of several right answers
the best one counts; no answer is right where none is.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lm.evaluation.examples import Answer, Examined
from lm.examples import as_text
from lm.objectives._labelled import begin_of_second, fields_of

MEASURES = ('exact_match', 'f1')
DEFAULT = 2


class Said(NamedTuple):
    """What was read off one window of a context.

    Attributes:
      text: the likeliest answer there.
      score: the logits of its first and last place, summed.
      none: those of bos, which stands for no answer.
    """

    text: str
    score: float
    none: float


def answers(examined: Examined) -> list[Answer]:
    """The answer to each question, of all windows of its context; '' where there is none.

    A question whose last windows are not among the examples is left out, unless it is the only one.
    """
    assert examined.predictions is not None
    may_be_none = examined.model.config.objective.options.unanswerable
    told: list[Answer] = []
    windows: list[Said] = []
    for number, predicted in enumerate(examined.predictions[: examined.count].tolist()):
        question, _, _, window, spans, text, right = fields_of(examined.rows.example(number), 7)
        begin = begin_of_second(len(question), examined.model.tokenizer.vocabulary)
        first, last = (int(place) - begin for place in predicted[:2])
        said = as_text(text)[spans[2 * first] : spans[2 * last + 1]].strip()
        windows.append(Said(said, *predicted[2:]))
        index, count = window
        if index == count - 1 or (not told and number == examined.count - 1):
            told.append(Answer(json.loads(as_text(right)), best_of(windows, may_be_none)))
            windows = []
    return told


def best_of(windows: Sequence[Said], may_be_none: bool) -> str:
    """The likeliest answer, or '' where bos is likelier in every window (Devlin et al. 2019, 4.3).

    Args:
      windows: of one context.
      may_be_none: whether the model has learnt that some questions have no answer.
    """
    best = max(windows, key=lambda said: said.score)
    least_none = min(said.none for said in windows)
    return '' if may_be_none and least_none > best.score else best.text


def measures(found: Sequence[Answer], names: Sequence[str]) -> dict[str, float]:
    """Both, the mean over all questions."""
    del names
    return {
        'exact_match': _mean_of_best(exact_match, found),
        'f1': _mean_of_best(f1, found),
    }


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous blanks, in the script's order."""
    text = ''.join(c for c in text.lower() if c not in _PUNCTUATION)
    return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def exact_match(expected: str, said: str) -> float:
    """1 where both are the same, normalised; else 0."""
    return float(normalised(expected) == normalised(said))


def f1(expected: str, said: str) -> float:
    """Harmonic mean of precision and recall of the words, as often as each is there."""
    right, found = normalised(expected).split(), normalised(said).split()
    if not right or not found:
        return float(right == found)
    common = (Counter(right) & Counter(found)).total()
    return 2 * common / (len(right) + len(found))


def _mean_of_best(measure: Callable[[str, str], float], found: Sequence[Answer]) -> float:
    total = 0.0
    for answer in found:
        # As the script has it, an answer of nothing but articles is no answer.
        right = [text for text in answer.expected if normalised(text)] or ['']
        total += max(measure(text, answer.said) for text in right)
    return total / max(len(found), 1)


_PUNCTUATION = frozenset(string.punctuation)
