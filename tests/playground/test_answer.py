"""Answers: the text of `lm.generate`, token by token, and how likely each token was."""

from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest

import lm
from lm.config import ObjectiveConfig
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.inspection.attention import maps_of
from lm.playground.answer import Answer, Settings, answer
from lm.resolution import resolve_options
from tests.generation.tiny import CONTEXT, LETTERS, language_model

SETTINGS = Settings(max_new_tokens=9, temperature=0.9, top_k=7, top_p=0.95, seed=3)


def trained_by(objective: str, name: str) -> LanguageModel:
    base = language_model(name)
    config = replace(base.config, objective=ObjectiveConfig(objective))
    return replace(base, config=resolve_options(config))


def id_of(piece: str) -> int:
    return 12 + LETTERS.index(piece) if len(piece) == 1 else int(piece[1:-1])


def generated(model: LanguageModel, prompt: str, settings: Settings, fill: bool) -> str:
    [text] = lm.generate(
        model, [prompt], max_new_tokens=settings.max_new_tokens, temperature=settings.temperature,
        top_k=settings.top_k or None, top_p=settings.top_p, seed=settings.seed, fill=fill,
    )  # fmt: skip
    return text


@pytest.mark.parametrize(
    ('name', 'objective', 'prompt', 'fill'),
    [
        ('llama', 'prefix_lm', 'the cat', False),
        ('lstm', 'clm', '', False),
        ('bert', 'mlm', 'a <mask> cat<mask>', True),
        ('t5', 'span_corruption', 'a <mask> cat <mask>.', True),
        ('bart', 'denoising', 'a <mask> cat', True),
    ],
)
def test_the_text_is_that_of_generate_and_its_tokens_are_as_likely_as_the_model_says(
    name: str, objective: str, prompt: str, fill: bool
) -> None:
    model = trained_by(objective, name)
    heard: list[str] = []
    found = answer(model, prompt, SETTINGS, on_text=heard.append)
    assert found.text == generated(model, prompt, SETTINGS, fill)
    came = [id_of(token.piece) for token in found.tokens]
    for token, probabilities_V in zip(found.tokens, asked(model, found, came), strict=True):
        assert token.probability == pytest.approx(probabilities_V[id_of(token.piece)], rel=1e-4)
        order = np.argsort(-probabilities_V, kind='stable')[:5]
        assert [id_of(piece) for piece, _ in token.others] == [*order]
        np.testing.assert_allclose([p for _, p in token.others], probabilities_V[order], rtol=1e-4)
    if name == 'bert':
        assert heard == []
        return
    assert heard[-1] == found.text and len(heard) == len(came)
    if model.functional.family == 'decoder':
        assert all(later.startswith(text) for text, later in pairwise(heard))


def asked(model: LanguageModel, found: Answer, came: list[int]) -> np.ndarray:
    """Probabilities [n, V] where each token came, from one pass over all that was read and said."""
    read = found.read
    logits_TV = model.functional.apply(model.params, read.batch)[0]
    if model.functional.family == 'encoder':
        places = np.flatnonzero(read.given == model.tokenizer.vocabulary.mask_id)
    else:
        assert [*read.given] == [*read.begun.given, *came[:-1]]
        places = np.arange(len(read.begun.given) - 1, len(read.given))
    return np.asarray(jax.nn.softmax(logits_TV[places]))


def test_tokens_beyond_the_context_have_no_alternatives() -> None:
    model, settings = language_model('gpt2'), replace(SETTINGS, max_new_tokens=20)
    found = answer(model, 'the cat', settings)
    assert found.text == generated(model, 'the cat', settings, False)
    within = CONTEXT - len(found.read.begun.given) + 1
    assert [bool(token.others) for token in found.tokens] == [i < within for i in range(20)]
    assert all(0 < token.probability <= 1 for token in found.tokens)


def test_an_answer_ends_with_the_token_that_ends_it() -> None:
    model = language_model('llama')
    settings = [Settings(max_new_tokens=12, temperature=3, top_k=0, seed=seed) for seed in range(9)]
    found = [answer(model, 'the', each) for each in settings]
    ended = [len(each.tokens) < 12 for each in found]
    assert any(ended)
    for each, early, setting in zip(found, ended, settings, strict=True):
        assert each.text == generated(model, 'the', setting, False)
        assert '<2>' not in [token.piece for token in each.tokens[:-1]]
        assert not early or each.tokens[-1].piece == '<2>'


def test_an_answer_that_is_stopped_is_the_beginning_of_the_whole() -> None:
    model, heard = language_model('llama'), []
    whole = answer(model, 'the cat', SETTINGS)
    part = answer(model, 'the cat', SETTINGS, on_text=heard.append, stopped=lambda: len(heard) == 4)
    assert [t.piece for t in part.tokens] == [t.piece for t in whole.tokens[:4]]
    assert whole.text.startswith(part.text) and part.text == 'the cat' + ''.join(
        t.piece for t in part.tokens
    )


def test_attention_of_an_answer_is_of_the_very_ids() -> None:
    model = language_model('t5')
    found = answer(model, 'a <mask>.', SETTINGS)
    kinds = {each.kind: each for each in maps_of(model, found.read, [0])}
    said = tuple(token.piece for token in found.tokens[:-1])
    assert kinds['cross'].rows == ('<0>', '<5>', *said)
    assert kinds['cross'].columns == ('a', ' ', '<5>', '.', '<2>')
    assert not np.triu(kinds['decoder'].weights_LHTS, 1).any()
    for each in kinds.values():
        np.testing.assert_allclose(each.weights_LHTS.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'prompt', 'changes', 'line'),
    [
        ('llama', 'a' * 30, {}, 'prompt: 31 tokens with its special ones'),
        ('bert', 'a cat', {}, "prompt='a cat': has no <mask> to fill"),
        ('llama', 'a', {'temperature': -1.0}, 'temperature=-1.0: must be at least 0'),
        ('llama', 'a', {'top_p': 0.0}, r'top_p=0.0: must be in \(0, 1]'),
        ('llama', 'a', {'top_k': -1}, 'top_k=-1: must be at least 1, or 0 for all'),
        ('llama', 'a', {'max_new_tokens': 0}, 'max_new_tokens=0: must be from 1 to 4096'),
        ('llama', 'a', {'seed': -1}, 'seed=-1: must be in'),
    ],
)
def test_a_mistake_is_told(name: str, prompt: str, changes: dict[str, float], line: str) -> None:
    with pytest.raises(UserError, match=line):
        answer(language_model(name), prompt, replace(SETTINGS, **changes))
