"""`lm generate`: stdout is the prompt and what the model adds, whatever the prompt comes from."""

import io
from types import SimpleNamespace

import pytest

import lm
from launch.main import main
from lm.generation.language_model import LanguageModel
from tests.generation.tiny import language_model


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    model = language_model('llama')
    monkeypatch.setattr('lm.training.load.load_run', lambda workdir: model)
    return model


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr('sys.stdin', SimpleNamespace(buffer=io.BytesIO(data)))


def test_stdout_is_prompt_and_continuation(
    loaded: LanguageModel, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ['--max_new_tokens=7', '--num_samples=2', '--seed=3', '--top_k=9', '--top_p=0.9']
    assert main(['generate', '--workdir=run', '--prompt=the cat', *words]) == 0
    texts = lm.generate(
        loaded, ['the cat'], max_new_tokens=7, num_samples=2, seed=3, top_k=9, top_p=0.9
    )
    assert all(text.startswith('the cat') for text in texts)
    out = capfd.readouterr().out
    assert out == ''.join(text + '\n' for text in texts)


def test_prompts_as_words_and_a_search(
    loaded: LanguageModel, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ['the cat', 'a', '--num_beams=3', '--num_samples=2', '--max_new_tokens=6']
    assert main(['generate', '--workdir=run', *words, '--length_penalty=0.5']) == 0
    texts = lm.generate(
        loaded, ['the cat', 'a'], max_new_tokens=6, num_samples=2, num_beams=3, length_penalty=0.5
    )
    assert capfd.readouterr().out == ''.join(text + '\n' for text in texts)


@pytest.mark.parametrize(
    ('words', 'typed_in', 'prompt'),
    [
        ([], b'a dog', 'a dog'),
        (['--prompt='], b'not read', ''),
        (['--prompt=none'], b'not read', 'none'),
    ],
)
def test_where_the_prompt_comes_from(
    loaded: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    typed_in: bytes,
    prompt: str,
) -> None:
    typed(monkeypatch, typed_in)
    base = ['generate', '--workdir=run', '--temperature=0', '--max_new_tokens=5']
    assert main([*base, *words]) == 0
    [text] = lm.generate(loaded, [prompt], temperature=0, max_new_tokens=5)
    assert capfd.readouterr().out == text + '\n'


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['--prompt=a'], '--workdir: missing'),
        (['--workdir=run', '--prompt=' + 'a' * 30], 'prompt: 31 tokens with its special ones'),
        (['--workdir=run', '--prompt=a', '--temperature=-1'], 'temperature=-1.0: must be'),
        (['--workdir=run', '--prompt=a', '--fill'], 'fill: a decoder (llama) only continues'),
        (['--workdir=run'], 'stdin: is not UTF-8 (byte 1)'),
        (['--workdir=run', '--prompt=a', 'b'], "'b': give it or --prompt, not both"),
        (['--workdir=run', '--prompt=a', '--top_p=0'], 'top_p=0.0: must be in (0, 1]'),
        (['--workdir=run', '--prompt=a', '--num_beams=2', '--top_k=3'], 'num_beams=2: draws'),
    ],
)
@pytest.mark.usefixtures('loaded')
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    typed(monkeypatch, b'a\xff')
    assert main(['generate', *words]) == 2
    captured = capfd.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('lm generate: ')
    assert line in captured.err
    assert captured.err.count('\n') == 1
