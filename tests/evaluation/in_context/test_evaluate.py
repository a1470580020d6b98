"""A model's score on a task: against one computed choice by choice, and of random weights."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

import lm
from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.evaluation.in_context.answers import is_right, written
from lm.evaluation.in_context.baselines import wilson
from lm.evaluation.in_context.evaluate import score_task
from lm.evaluation.in_context.records import Question, read_records
from lm.evaluation.in_context.shots import Shots
from lm.evaluation.in_context.task import Task, read_task
from lm.evaluation.in_context.template import template
from lm.generation.language_model import LanguageModel
from lm.generation.sample import generate
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from tests.data.corpora import corpus
from tests.evaluation.in_context.tiny import LINES, question
from tests.generation.tiny import Letters, language_model

PROMPTS = ('qq a', 'th e', 'wen', 'ab c', 'z', 'kl m n', 'o', 'per')
ASKED = [
    question(prompt, 'x', 'the cat', 'bz', gold=gold)
    for prompt, gold in zip(PROMPTS, [0, 1, 2, 0] * 2, strict=True)
]
WRITTEN_ASKED = [Question(prompt, prompt, (), None, ('x',)) for prompt in ('ab', 'cd', 'ef')]
WRITES = Task('writes', template('{q}', 'prompt'), answers='a', stop=('q',), max_new_tokens=4)


def by_hand(model: LanguageModel, context: str, choice: str) -> float:
    """log p of a choice behind a context, one row, float64."""
    said = Letters().encode(' ' + choice)
    row = np.array([[Letters.vocabulary.bos_id, *Letters().encode(context), *said[:-1]]])
    log_p = log_softmax(np.asarray(model.logits(row)[0], np.float64), axis=-1)
    start = row.shape[1] - len(said)
    return float(sum(log_p[start + i, token] for i, token in enumerate(said)))


def test_accuracies_are_those_of_choices_scored_one_by_one() -> None:
    model = language_model('llama', context=64)
    found = score_task(model, LINES, ASKED, num_shots=2, seed=3)
    shots = Shots(ASKED, 3)
    sums = []
    for number, asked in enumerate(ASKED):
        solved = [f'{s.prompt} {s.answers[0]}' for s in shots.drawn(asked, number, 2)]
        context = ' . '.join([*solved, asked.prompt])
        sums.append([by_hand(model, context, choice) for choice in asked.choices])
    divisors = {
        'accuracy': [1, 1, 1],
        'accuracy_per_token': [2, 8, 3],  # a letter each, and the space before
        'accuracy_per_byte': [1, 7, 2],
    }
    taken = {}
    for name, sizes in divisors.items():
        best = (np.array(sums) / sizes).argmax(axis=1)
        taken[name] = tuple(best)
        share = float(np.mean(best == [q.gold for q in ASKED]))
        assert found[name] == share
        assert found['intervals'][name] == wilson(share, len(ASKED))
    assert len(set(taken.values())) == 3  # the three rules do not agree on these
    assert found['ties'] == dict.fromkeys(divisors, 0)
    assert found['baselines']['shortest'] == 4 / 8  # `x` is the shortest of each
    assert found['context']['shots'] == {'2': 8}
    assert found['context']['left_out'] == 0


def test_the_first_of_equals_is_taken_and_they_are_counted() -> None:
    model = language_model('llama')
    twice = [
        question(prompt, 'b', 'b', gold=gold) for prompt, gold in (('a', 0), ('c', 0), ('d', 1))
    ]
    found = score_task(model, LINES, twice, batch_size=1)
    assert (found['accuracy'], found['ties']['accuracy']) == (2 / 3, 3)


def test_fewer_questions_are_the_first_with_the_same_examples() -> None:
    model = language_model('llama', context=64)
    some = score_task(model, LINES, ASKED, num_shots=1, limit=5)
    # The others are still there to be drawn from.
    same = score_task(model, LINES, ASKED[:5], num_shots=1, pool=ASKED)
    assert some == same and some['questions'] == 5
    assert some['context']['longest'] <= 64


def test_questions_that_are_left_out_are_counted() -> None:
    model = language_model('llama')
    asked = [ASKED[0], question('a' * 30, 'x', 'y'), ASKED[2]]
    found = score_task(model, LINES, asked, questions_that_fit=True)
    assert (found['questions'], found['context']['left_out']) == (2, 1)
    assert found['accuracy'] == score_task(model, LINES, [ASKED[0], ASKED[2]])['accuracy']


@pytest.mark.parametrize('name', ['llama', 't5'])
def test_answers_are_written_greedily_and_cut_at_a_stop(name: str) -> None:
    model = language_model(name)
    contexts = ['the cat', 'ab', 'a b c d']
    whole = generate(model, contexts, max_new_tokens=6, temperature=0)
    answers = [text[len(context) :] for context, text in zip(contexts, whole, strict=True)]
    assert written(model, contexts, (), 6, 8) == written(model, contexts, (), 6, 2) == answers
    stop = next(answer for answer in answers if len(answer) > 2)[1]
    assert written(model, contexts, (stop,), 6, 8) == [answer.split(stop)[0] for answer in answers]


def test_no_more_answers_are_written_at_once_than_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def counted(model: Any, prompts: list[str], **how: Any) -> list[str]:
        asked.append(len(prompts))
        return generate(model, prompts, **how)

    monkeypatch.setattr('lm.evaluation.in_context.answers.generate', counted)
    found = score_task(language_model('llama'), WRITES, WRITTEN_ASKED, batch_size=2)
    assert asked == [2, 1] and found['questions'] == 3


def test_likelihoods_that_are_not_finite_are_refused() -> None:
    model = language_model('llama')
    leaves, tree = jax.tree.flatten(model.params)
    damaged = jax.tree.unflatten(tree, [leaf * np.nan for leaf in leaves])
    with pytest.raises(UserError, match='24 of 24 log-likelihoods are not finite; the model over'):
        score_task(replace(model, params=damaged), LINES, ASKED)


def test_a_score_by_generation_is_of_exact_matches() -> None:
    model = language_model('llama')
    said = written(model, ['ab', 'cd', 'ef'], WRITES.stop, 4, 8)
    asked = [
        Question('1', 'ab', (), None, ('x', f' {said[0].upper()}.')),
        Question('2', 'cd', (), None, (said[1] + 'k',)),
        Question('3', 'ef', (), None, (said[2],)),
    ]
    found = score_task(model, WRITES, asked)
    assert found['accuracy'] == pytest.approx(2 / 3)
    assert found['answered_by'] == 'generation' and 'ties' not in found
    chosen = [
        question(prompt, 'x', said[i] or '.', gold=1) for i, prompt in enumerate(('ab', 'cd'))
    ]
    by_choice = score_task(model, LINES, chosen, by_generation=True)
    assert by_choice['max_new_tokens'] == max(len(q.choices[1]) + 1 for q in chosen)
    texts = written(model, ['ab', 'cd'], LINES.stop, by_choice['max_new_tokens'], 8)
    right = [is_right(text, q.answers) for text, q in zip(texts, chosen, strict=True)]
    assert by_choice['accuracy'] == np.mean(right)
    assert by_choice['baselines']['chance'] == 0.5


@pytest.mark.parametrize(
    ('name', 'how', 'line'),
    [
        ('bert', {}, '--task=chooses: bert is an encoder, which gives no text a likelihood'),
        ('llama', {'num_shots': -1}, '--num_shots=-1: must be at least 0'),
        ('llama', {'limit': 0}, '--limit=0: must be at least 1'),
        ('llama', {'batch_size': 0}, '--batch_size=0: must be at least 1'),
        ('llama', {'seed': -1}, '--seed=-1: must be at least 0'),
        ('llama', {'num_shots': 8}, '--num_shots=8: here:qq a has only 7 other records'),
    ],
)
def test_what_cannot_be_asked_is_one_line(name: str, how: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        score_task(language_model(name), LINES, ASKED, **how)
    assert str(refused.value).startswith(line)


def scores_of_random_weights(task: str, limit: int | None, seeds: int) -> list[dict[str, Any]]:
    """Untrained models of 1 layer, each of its own initialisation, on a real task."""
    file, tokens = (
        corpus(f'tasks/icl/{task}.jsonl'),
        corpus('tokenizers/sentencepiece_test_model_1k.model'),
    )
    config = lm.load_config(
        'llama_tiny',
        **{'model.vocab_size': 1024, 'model.d_model': 16, 'model.num_layers': 1,
           'model.num_heads': 2, 'model.max_positions': 512},
    )  # fmt: skip
    codec, shape = load_tokenizer(tokens, 1024), functional(config.model, POLICIES['fp32'])
    asked = read_records(read_task(task), str(file), 'task_data').asked
    init = jax.jit(shape.init)
    return [
        score_task(
            LanguageModel(config, shape, init(jax.random.key(seed)), codec),
            read_task(task), asked, limit=limit, batch_size=64,
        )
        for seed in range(seeds)
    ]  # fmt: skip


def require_knows_nothing(scores: list[dict[str, Any]]) -> None:
    """By the sum it takes the shortest choice, each time; by a token's share, any."""
    baselines, count = scores[0]['baselines'], scores[0]['questions']
    low, high = wilson(baselines['shortest'], count)
    assert all(low <= score['accuracy'] <= high for score in scores)
    mean = np.mean([score['accuracy_per_token'] for score in scores])
    assert abs(mean - baselines['chance']) <= 0.03


def test_random_weights_take_the_shortest_choice() -> None:
    scores = scores_of_random_weights('copa', None, 10)
    require_knows_nothing(scores)


@pytest.mark.slow
def test_random_weights_know_nothing_of_four_choices() -> None:
    scores = scores_of_random_weights('openbook_qa', None, 10)
    require_knows_nothing(scores)
    # Far from chance: what is shorter is likelier to a model that knows nothing.
    assert scores[0]['baselines']['shortest'] < 0.18
