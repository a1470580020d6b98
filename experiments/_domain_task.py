"""A task of a domain: which of four texts goes on from what came before? Of held-out text alone.

A question is a context and four choices of equal length in tokens, one of them the right one. In a
document that begins with a line that ends in a question mark the context is that line and the right
choice what the answer begins with; in any other it is a sentence that follows some others. The
wrong ones are the right ones of other documents, or of a far place where there are too few.

A choice's score is log p(choice | context) - log p(choice): what the context tells of it, so that
text which is likely anywhere does not win everywhere (Holtzman et al. 2021, "Surface Form
Competition: Why the Highest Probability Answer Isn't Always Right", PMI_DC). By chance 0.25.
"""

import itertools
import re
from typing import NamedTuple

import numpy as np

from lm.data.store import Store
from lm.data.tokenizer import Tokenizer
from lm.errors import UserError
from lm.evaluation.spans import Span, span_nats
from lm.generation.language_model import LanguageModel
from lm.objectives._objective import build_objective

CHOICES = 4
CHOICE_TOKENS = 24
CONTEXT_TOKENS = 160
"""Of the longest context; of a longer one the end is shown."""
_CONTEXT_SENTENCES = 4
_SENTENCE_END = re.compile(r'(?<=[.?!])\s+(?=[A-Z“"])')


class _Turn(NamedTuple):
    """A place where a text goes on: ids before it and behind it, and of which document it is."""

    document: int
    context: np.ndarray
    choice: np.ndarray


class Question(NamedTuple):
    """Of one context what may follow it.

    Attributes:
      context: int32 [n], ids.
      choices: numbers of the choices among those of the task; the first is right.
    """

    context: np.ndarray
    choices: tuple[int, ...]


class Task(NamedTuple):
    """Questions, and the int32 [CHOICE_TOKENS] ids of all that may follow."""

    questions: list[Question]
    choices: list[np.ndarray]


def build_task(held_out: Store, tokenizer: Tokenizer, most: int) -> Task:
    """The task of a held-out text, the same at every call.

    Args:
      held_out: its documents.
      tokenizer: what made its tokens.
      most: questions; fewer where the text has fewer places.

    Raises:
      UserError: there are fewer places than a question has choices.
    """
    turns = []
    for document in range(held_out.documents):
        text = tokenizer.decode(held_out.read(document, 0, held_out.lengths[document]))
        for before, after in _places(text):
            context, choice = tokenizer.encode(before), tokenizer.encode(after)
            if len(choice) >= CHOICE_TOKENS:
                turns.append(_Turn(document, context[-CONTEXT_TOKENS:], choice[:CHOICE_TOKENS]))
    if len(turns) < CHOICES:
        raise UserError(
            f'held-out text: {len(turns)} places to ask for, and a question has {CHOICES} choices; '
            'give more text, or a larger validation_fraction'
        )
    draw = np.random.default_rng(0)
    asked = np.sort(draw.permutation(len(turns))[:most])
    turns = [turns[i] for i in asked]
    documents = np.array([turn.document for turn in turns])
    questions = []
    for i, turn in enumerate(turns):
        others = np.flatnonzero(documents != turn.document)
        if len(others) < CHOICES - 1:
            others = np.delete(np.arange(len(turns)), i)
        wrong = draw.choice(others, CHOICES - 1, replace=False)
        questions.append(Question(turn.context, (i, *wrong.tolist())))
    return Task(questions, [turn.choice for turn in turns])


def _places(text: str) -> list[tuple[str, str]]:
    """Contexts of a document and what follows each: of a question its answer, else sentences."""
    first, _, rest = text.strip().partition('\n')
    if first.endswith('?'):
        return [(f'{first}\n', rest)] if rest.strip() else []
    sentences = _SENTENCE_END.split(text)
    windows = (sentences[i : i + _CONTEXT_SENTENCES + 1] for i in range(len(sentences)))
    whole = itertools.takewhile(lambda window: len(window) > _CONTEXT_SENTENCES, windows)
    return [(' '.join(window[:-1]), f' {window[-1]}') for window in whole]


def accuracy(model: LanguageModel, task: Task, batch_size: int) -> float:
    """The share of questions whose right choice the model scores highest."""
    objective = build_objective(model.config, model.tokenizer.vocabulary)
    spans = [Span(choice, 0, len(choice)) for choice in task.choices]
    spans += [_behind(q.context, task.choices[k]) for q in task.questions for k in q.choices]
    nats = span_nats(model, objective, spans, batch_size)
    alone, behind = nats[: len(task.choices)], nats[len(task.choices) :].reshape(-1, CHOICES)
    gains = alone[np.array([q.choices for q in task.questions])] - behind
    return float(np.mean(gains.argmax(axis=1) == 0))


def _behind(context: np.ndarray, choice: np.ndarray) -> Span:
    text = np.concatenate([context, choice])
    return Span(text, len(context), len(text))
