"""Several who ask at once: one after another, and none disturbs another."""

import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from lm.errors import UserError
from lm.playground import turns as playground_turns
from lm.playground.answer import Answer, Settings, answer
from lm.playground.turns import Turns, settings_of
from tests.generation.tiny import language_model

SETTINGS = Settings(max_new_tokens=6)
USUAL = {'max_new_tokens': 5.0, 'temperature': 1, 'top_k': 4, 'top_p': 0.5, 'seed': 7}


def test_two_at_once_are_answered_as_each_alone() -> None:
    model = language_model('llama')
    turns = Turns(model)
    asked = [turns.ask(prompt, SETTINGS) for prompt in ('the cat', 'a dog', 'a' * 40, 'the cat')]
    cat, dog, _, again = asked
    with pytest.raises(UserError, match='prompt: 41 tokens'):
        asked[2].done.result(60)
    for prompt, each in (('the cat', cat), ('a dog', dog), ('the cat', again)):
        alone = answer(model, prompt, SETTINGS)
        assert (each.done.result(60).text, each.text) == (alone.text, alone.text)
        assert each.done.result().tokens == alone.tokens
    [own] = turns.maps(cat.done.result(), 0).result(60)
    assert own.rows[:8] == ('<1>', *'the cat')
    turns.close()


def test_who_is_stopped_before_the_turn_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    model, under_way, prompts = language_model('llama'), Event(), []
    some = answer(model, 'a', SETTINGS)

    def waiting(model: Any, prompt: str, settings: Settings, **more: Any) -> Answer:
        prompts.append(prompt)
        under_way.set()
        while not more['stopped']():
            time.sleep(0.01)
        return replace(some, text=prompt)

    monkeypatch.setattr(playground_turns, 'answer', waiting)
    turns = Turns(model)
    first, second, third = (turns.ask(prompt, SETTINGS) for prompt in 'abc')
    assert under_way.wait(60)
    assert (first.begun, second.begun) == (True, False)
    second.stop()
    with pytest.raises(CancelledError):
        second.done.result(60)
    first.stop()
    assert first.done.result(60).text == 'a'
    turns.close()  # stops the third, at its turn or before
    assert third.done.done() and set(prompts) <= {'a', 'c'}


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({}, None),
        ({'top_k': None}, 'top_k: empty; give a number'),
        ({'top_k': 2.5}, 'top_k=2.5: must be a whole number'),
        ({'seed': float('inf')}, 'seed=inf: must be a whole number'),
        ({'temperature': -0.5}, 'temperature=-0.5: must be at least 0'),
    ],
)
def test_what_number_boxes_hold(changes: Mapping[str, float | None], line: str | None) -> None:
    if line is None:
        assert settings_of(USUAL) == Settings(5, 1.0, 4, 0.5, 7)
        return
    with pytest.raises(UserError, match=line):
        settings_of({**USUAL, **changes})
