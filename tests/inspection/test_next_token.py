"""Next-token tables against NumPy, at every place that a family predicts."""

import numpy as np
import pytest

import lm
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.inspection.next_token import next_tokens
from tests.generation.tiny import language_model

SETTINGS = {'temperature': 0.7, 'top_k': 5, 'top_p': 0.8}
NAMES = ['raw', 'temperature=0.7', 'top_k=5', 'top_p=0.8', 'all']


def restricted(logits_V: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Probabilities in float64, by sorting: the most likely k, and of them those that reach p."""
    scaled_V = logits_V.astype(np.float64) / temperature
    order_V = np.argsort(-scaled_V, kind='stable')[:top_k]
    kept_V = np.exp(scaled_V[order_V] - scaled_V.max())
    kept_V /= kept_V.sum()
    count = int(np.searchsorted(np.cumsum(kept_V), top_p) + 1)
    found_V = np.zeros(len(logits_V))
    found_V[order_V[:count]] = kept_V[:count] / kept_V[:count].sum()
    return found_V


def expected(logits_V: np.ndarray, never: set[int]) -> dict[str, np.ndarray]:
    allowed_V = np.where(np.isin(np.arange(len(logits_V)), [*never]), -np.inf, logits_V)
    every = len(logits_V)
    cases = [(1, every, 2), (0.7, every, 2), (1, 5, 2), (1, every, 0.8), (0.7, 5, 0.8)]
    return {
        name: restricted(logits_V if name == 'raw' else allowed_V, *case)
        for name, case in zip(NAMES, cases, strict=True)
    }


def logits_of(model: LanguageModel, ids: list[int], decoder: list[int] | None) -> np.ndarray:
    given = None if decoder is None else np.array([decoder])
    return np.asarray(model.logits(np.array([ids]), decoder_tokens=given))[0]


A = 12  # the id of the letter a, whose text the models read
BLANKS = ['<mask> 1 of 2', '<mask> 2 of 2']


@pytest.mark.parametrize(
    ('name', 'text', 'ids', 'decoder', 'places', 'where', 'allowed'),
    [
        ('gpt2', 'aba', [1, A, A + 1, A], None, [3], ["after 'aba'"], {2}),
        ('bert', '<mask>a<mask>', [1, 4, A, 4, 2], None, [1, 3], BLANKS, set()),
        ('t5', 'a<mask>', [A, 5, 2], [0, 5], [1], ['the first token of the first <mask>'],
         {2, 5, 6, 7, 8}),
        ('t5', 'a', [A, 5, 2], [0, 5], [1], ["after 'a'"], {2, 5, 6, 7, 8}),
    ],
)  # fmt: skip
def test_every_setting_is_that_of_numpy(
    name: str, text: str, ids: list[int], decoder: list[int] | None, places: list[int],
    where: list[str], allowed: set[int],
) -> None:  # fmt: skip
    model = language_model(name)
    found = next_tokens(model, text, rows=6, **SETTINGS)
    logits_TV = logits_of(model, ids, decoder)
    assert [each.where for each in found] == where
    for each, place in zip(found, places, strict=True):
        want = expected(logits_TV[place], ({*range(12)} | {*range(40, 99)}) - allowed)
        assert [*each.probabilities] == [*each.remaining] == NAMES
        assert each.ids_N.tolist() == np.argsort(-logits_TV[place], kind='stable')[:6].tolist()
        for setting in NAMES:
            got_N, want_V = each.probabilities[setting], want[setting]
            np.testing.assert_allclose(got_N, want_V[each.ids_N], atol=1e-5, err_msg=setting)
            assert each.remaining[setting] == np.count_nonzero(want_V)
        words = [model.tokenizer.decode([i]) or f'<{i}>' for i in each.ids_N]
        assert list(each.tokens) == words


def test_greedy_and_the_place_behind_a_target() -> None:
    model = language_model('t5')
    [found] = next_tokens(model, 'a', target='b', temperature=0, rows=100)
    assert found.where == "after the target 'b'"
    assert len(found.ids_N) == model.tokenizer.vocabulary.size
    logits_V = logits_of(model, [A, 5, 2], [0, 5, A + 1])[2]
    assert found.ids_N[0] == logits_V.argmax()
    assert found.remaining['all'] == found.remaining['temperature=0'] == 1
    [text] = lm.generate(language_model('gpt2'), ['abc'], temperature=0, max_new_tokens=1)
    [first] = next_tokens(language_model('gpt2'), 'abc', temperature=0)
    [place] = np.flatnonzero(first.probabilities['all'])
    assert first.probabilities['all'][place] == 1
    assert text == 'abc' + first.tokens[place].replace('<2>', '')


@pytest.mark.parametrize(
    ('name', 'text', 'more', 'line'),
    [
        ('bert', 'a', {}, r'text: has no <mask>, and an encoder \(bert\) predicts none elsewhere'),
        ('gpt2', 'a', {'top_p': 1.5}, r'top_p=1.5: must be in \(0, 1\]'),
        ('gpt2', 'a', {'temperature': -1.0}, 'temperature=-1.0: must be at least 0'),
        ('gpt2', 'a', {'rows': 0}, 'rows=0: must be at least 1'),
        ('t5', '<mask>' * 5, {}, 'text: has 5 blanks; at most 4'),
    ],
)
def test_a_mistake_is_one_line(name: str, text: str, more: dict, line: str) -> None:
    with pytest.raises(UserError, match='^' + line):
        next_tokens(language_model(name), text, **more)
