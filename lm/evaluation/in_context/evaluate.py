"""A model's score on a task: K shots, then a question, of each record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from lm.config import require
from lm.evaluation.in_context.answers import is_right, normalised, written
from lm.evaluation.in_context.baselines import answer_baselines, choice_baselines, wilson
from lm.evaluation.in_context.choices import Continuation, log_likelihoods, require_likelihoods
from lm.evaluation.in_context.records import Question
from lm.evaluation.in_context.shots import (
    Asking,
    Fitted,
    Shots,
    asking_choices,
    asking_to_write,
    fitted,
)
from lm.evaluation.in_context.task import Task
from lm.generation.language_model import LanguageModel


def score_task(
    model: LanguageModel,
    task: Task,
    questions: Sequence[Question],
    *,
    num_shots: int = 0,
    pool: Sequence[Question] | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    by_generation: bool = False,
    shots_that_fit: bool = False,
    questions_that_fit: bool = False,
) -> dict[str, Any]:
    """The model's accuracy, by the likelihood of each choice or by what it writes.

    By likelihood there are three accuracies, of the choice whose log-likelihood is highest:
    `accuracy` of the sum over its tokens, `accuracy_per_token` of the sum divided by their number,
    `accuracy_per_byte` of the sum divided by the UTF-8 bytes of the choice without what delimits
    it. Among equals the first is taken; `ties` counts the questions that have such. lm-eval calls
    the first `acc` and the last `acc_bytes`; its `acc_norm` divides by characters, which are bytes
    where a text is ASCII. By generation `accuracy` is of exact matches after SQuAD's normalisation.

    Args:
      model: a decoder or an encoder-decoder.
      task: says what examples look like.
      questions: of the task's records.
      num_shots: K.
      pool: where examples come from; None: the other questions.
      limit: only so many questions are asked, the first; None: all.
      seed: decides the examples.
      batch_size: rows at once.
      by_generation: have the answer written, also where there are choices.
      shots_that_fit: where K examples do not fit, take fewer, and tell how many.
      questions_that_fit: leave out, and count, questions that do not fit by themselves.

    Returns:
      `task`, `answered_by`, `questions`, `num_shots`, `seed`, the accuracies, `intervals` (95 %,
      Wilson) by their names, `ties`, `baselines`, and `context`: `max_positions`, `seq_len` that
      the model was trained on, `longest` and `longer_than_trained` of the questions in tokens,
      `shots`, how many questions got how many, and `left_out`, how many were not asked.

    Raises:
      UserError: an encoder; examples that do not fit; a setting out of its range.
    """
    require(num_shots >= 0, f'--num_shots={num_shots}: must be at least 0')
    require(limit is None or limit >= 1, f'--limit={limit}: must be at least 1')
    require(batch_size >= 1, f'--batch_size={batch_size}: must be at least 1')
    require(seed >= 0, f'--seed={seed}: must be at least 0')
    require_likelihoods(model, f'--task={task.name}')
    writes, choose = by_generation or task.choices is None, asking_choices(model, task)
    most_new = 0
    if writes:
        most_new = task.max_new_tokens or _longest_choice(choose, questions[:limit])
    found = fitted(
        task,
        questions[:limit],
        Shots(questions if pool is None else pool, seed),
        num_shots,
        asking_to_write(model, most_new) if writes else choose,
        model.context,
        shots_that_fit=shots_that_fit,
        questions_that_fit=questions_that_fit,
    )
    pairs = [(q, one) for q, one in zip(questions, found, strict=False) if one is not None]
    asked, fits = [question for question, _ in pairs], [one for _, one in pairs]
    outcome = (
        _by_generation(model, task, asked, fits, most_new, batch_size)
        if writes
        else _by_likelihood(model, asked, fits, batch_size)
    )
    return {
        'task': task.name,
        'answered_by': 'generation' if writes else 'likelihood',
        'questions': len(asked),
        'num_shots': num_shots,
        'seed': seed,
        **outcome,
        'baselines': (
            answer_baselines(asked, normalised)
            if task.choices is None
            else choice_baselines(asked, [_tokens(choose(q.prompt, q)) for q in asked])
        ),
        'context': {**_told(model, fits), 'left_out': len(found) - len(fits)},
    }


def _by_generation(
    model: LanguageModel,
    task: Task,
    asked: Sequence[Question],
    fits: Sequence[Fitted],
    most_new: int,
    batch_size: int,
) -> dict[str, Any]:
    """The share of questions whose answer is written as one that is right."""
    contexts = [one.context for one in fits]
    texts = written(model, contexts, task.stop, most_new, batch_size)
    right = np.array([is_right(t, q.answers) for t, q in zip(texts, asked, strict=True)])
    return {**_shares({'accuracy': right}), 'max_new_tokens': most_new}


def _by_likelihood(
    model: LanguageModel, asked: Sequence[Question], fits: Sequence[Fitted], batch_size: int
) -> dict[str, Any]:
    """The share of questions whose right choice is likeliest, by each score."""
    scores = _scores(model, asked, [one.asked for one in fits], batch_size)
    hits = {name: _hits(asked, rows) for name, rows in scores.items()}
    return {**_shares(hits), 'ties': {name: _ties(rows) for name, rows in scores.items()}}


def _shares(hits: Mapping[str, Bool[np.ndarray, ' Q']]) -> dict[str, Any]:
    """Accuracies, and their intervals by their names."""
    shares = {name: float(hits_Q.mean()) for name, hits_Q in hits.items()}
    intervals = {name: wilson(share, len(hits[name])) for name, share in shares.items()}
    return {**shares, 'intervals': intervals}


def _scores(
    model: LanguageModel,
    questions: Sequence[Question],
    choices: Sequence[Sequence[Continuation]],
    batch_size: int,
) -> Mapping[str, list[Float[np.ndarray, ' C']]]:
    """Of each question's choices the three scores, by the accuracy's name."""
    log_p_N = log_likelihoods(model, [one for of in choices for one in of], batch_size).log_p_N
    summed = np.split(log_p_N, np.cumsum([len(of) for of in choices])[:-1])
    tokens = [_tokens(of) for of in choices]
    sizes = [np.array([len(text.encode()) for text in question.choices]) for question in questions]
    return {
        'accuracy': summed,
        'accuracy_per_token': [s / n for s, n in zip(summed, tokens, strict=True)],
        'accuracy_per_byte': [s / n for s, n in zip(summed, sizes, strict=True)],
    }


def _tokens(choices: Sequence[Continuation]) -> np.ndarray:
    return np.array([len(one.ids) for one in choices])


def _longest_choice(choose: Asking, questions: Sequence[Question]) -> int:
    """Tokens of the longest choice of all."""
    return max(int(_tokens(choose(question.prompt, question)).max()) for question in questions)


def _hits(
    questions: Sequence[Question], rows: Sequence[Float[np.ndarray, ' _']]
) -> Bool[np.ndarray, ' Q']:
    """Whether the best choice is right; the first of equals."""
    return np.array([q.gold == int(np.argmax(row)) for q, row in zip(questions, rows, strict=True)])


def _ties(rows: Sequence[Float[np.ndarray, ' _']]) -> int:
    return sum(int((row == row.max()).sum() > 1) for row in rows)


def _told(model: LanguageModel, fits: Sequence[Fitted]) -> dict[str, Any]:
    """What the context had room for."""
    seq_len = model.config.train.seq_len
    counts = Counter(one.shots for one in fits)
    return {
        'max_positions': model.context,
        'seq_len': seq_len,
        'longest': max(one.length for one in fits),
        'longer_than_trained': sum(one.length > seq_len for one in fits),
        'shots': {str(count): counts[count] for count in sorted(counts)},
    }
