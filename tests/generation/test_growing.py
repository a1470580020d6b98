"""Texts as they come: nothing is told that a stop or a character's end would take back."""

import numpy as np
import pytest

import lm
from lm.errors import UserError
from lm.generation.growing import Growing
from tests.generation.tiny import language_model

CODES = {1: 'a', 2: 'b', 3: '\n', 4: 'st', 5: 'op', 6: '\ufffd'}


def said(ids: np.ndarray) -> str:
    text = ''.join(CODES[i] for i in ids.tolist())
    return text.replace('\ufffd\ufffd', 'é')


def pieces(ids: list[int], stops: tuple[str, ...] = ()) -> tuple[list[str], Growing]:
    one = Growing(said, stops)
    return [
        one.grown(np.array(ids[: n + 1]), ended=n + 1 == len(ids)) for n in range(len(ids))
    ], one


def test_pieces_make_up_the_text() -> None:
    told, one = pieces([1, 2, 3, 1])
    assert told == ['a', 'b', '\n', 'a'] and one.text == 'ab\na' and not one.stopped


def test_the_beginning_of_a_stop_is_held_back_until_it_is_none() -> None:
    told, one = pieces([1, 4, 1, 4, 5, 2], ('stop', 'zz'))
    assert told == ['a', '', 'sta', '', '', ''] and one.stopped and one.text == 'asta'
    told, one = pieces([1, 4], ('stop',))
    assert told == ['a', 'st'] and not one.stopped  # at the end it is no beginning any more


def test_the_first_stop_counts() -> None:
    assert pieces([1, 2, 1, 2], ('ba', 'ab'))[1].text == ''


def test_it_does_not_matter_how_often_one_looks() -> None:
    """`ab` is whole before `babb`, which begins first."""
    assert pieces([1, 2, 1, 2, 2], ('babb', 'ab'))[1].text == ''
    for stops in (('abab', 'ba'), ('ba', 'abab')):
        one = Growing(said, stops)
        one.grown(np.array([1, 2, 1, 2]), ended=True)
        assert one.text == pieces([1, 2, 1, 2], stops)[1].text == 'a'


def test_half_a_character_is_held_back() -> None:
    assert pieces([1, 6, 6, 2])[0] == ['a', '', 'é', 'b']
    assert pieces([1, 6])[0] == ['a', '\ufffd']


@pytest.mark.parametrize('stop', [(), ('e',), ('th', ' ')])
def test_what_is_heard_is_what_comes_back(stop: tuple[str, ...]) -> None:
    model = language_model('llama', num_layers=2)
    heard = ['', '', '', '']
    prompts = ['ab', 'cat']

    def hear(number: int, piece: str) -> None:
        heard[number] += piece

    ask = {'max_new_tokens': 14, 'num_samples': 2, 'seed': 3}
    texts = lm.generate(model, prompts, stop=stop, on_text=hear, **ask)
    assert [prompts[i // 2] + text for i, text in enumerate(heard)] == texts
    assert lm.generate(model, prompts, stop=stop, **ask) == texts
    whole = lm.generate(model, prompts, **ask)
    for i, (text, full) in enumerate(zip(texts, whole, strict=True)):
        added = full[len(prompts[i // 2]) :]
        places = [added.find(one) for one in stop if one in added]
        assert text == prompts[i // 2] + (added[: min(places)] if places else added)
    assert not stop or texts != whole


def test_only_a_decoder_stops_and_is_heard() -> None:
    with pytest.raises(UserError, match='stop: t5 is no decoder'):
        lm.generate(language_model('t5'), ['ab'], stop=['x'])
    with pytest.raises(UserError, match='stop: a text; give a list'):
        lm.generate(language_model('llama'), ['ab'], stop='END')
    with pytest.raises(UserError, match='stop: an empty text'):
        lm.generate(language_model('llama'), ['ab'], stop=[''])
