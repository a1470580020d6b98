"""`lm playground`: where it listens and who may come; a mistake is one line."""

import re
import socket
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip('nicegui', reason='of the extra playground')

from launch.main import main
from launch.playground import is_loopback
from lm.generation.language_model import LanguageModel
from tests.generation.tiny import language_model


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page was served with."""
    found: dict[str, Any] = {}

    def serve(model: LanguageModel, name: str, **more: Any) -> None:
        found.update(more, model=model, name=name)

    monkeypatch.setattr('lm.training.load.load_run', lambda workdir: language_model('llama'))
    monkeypatch.setattr('lm.playground.page.serve', serve)
    return found


@pytest.fixture
def port() -> int:
    """A free one."""
    with socket.socket() as trial:
        trial.bind(('127.0.0.1', 0))
        return int(trial.getsockname()[1])


@pytest.mark.parametrize(
    ('words', 'token'),
    [
        ([], None),
        (['--host=localhost'], None),
        (['--token=abcdefgh-1'], 'abcdefgh-1'),
        (['--host=0.0.0.0'], r'[\w-]{22}'),
        (['--host=0.0.0.0', '--token=abcdefgh-1'], 'abcdefgh-1'),
    ],
)
def test_beyond_this_machine_only_with_a_token(
    served: dict[str, Any], port: int, words: list[str], token: str | None
) -> None:
    assert main(['playground', '--workdir=runs/mine', f'--port={port}', *words]) == 0
    assert (served['name'], served['port']) == ('mine', port)
    assert served['host'] == (words[0][7:] if words and 'host' in words[0] else '127.0.0.1')
    if token is None:
        assert served['token'] is None and '?' not in served['ready']
    else:
        assert re.fullmatch(token, served['token'])
        assert f':{port}/?token={served["token"]} ' in served['ready']


def test_what_only_this_machine_reaches() -> None:
    here = ['127.0.0.1', '127.3.2.1', '::1', 'localhost']
    assert [is_loopback(host) for host in [*here, '0.0.0.0', '::', '10.0.0.1', 'example']] == [
        *[True] * 4, *[False] * 4,
    ]  # fmt: skip


@pytest.mark.usefixtures('served')
@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['--port=0'], '--port=0: must be from 1 to 65535'),
        (['--port={taken}'], '--port={taken}: cannot listen at 127.0.0.1:{taken} (Address already'),
        (['--host=no such host'], '--host=no such host: no such address'),
        (['--host=192.0.2.1'], 'cannot listen at 192.0.2.1:7860 (Cannot assign requested address)'),
        (['--token=a b'], '--token: must be 8 or more letters, digits, - or _'),
        (['--hf=x'], '--hf=x: give it or --workdir, not both'),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        taken = other.getsockname()[1]
        words = [word.format(taken=taken) for word in words]
        assert main(['playground', '--workdir=run', *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith('lm playground: ') and err.count('\n') == 1
    assert line.format(taken=taken) in err


def test_without_a_tokenizer_or_nicegui(
    served: dict[str, Any],
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bare = replace(language_model('llama'), text_codec=None)
    monkeypatch.setattr('lm.training.load.load_run', lambda workdir: bare)
    assert main(['playground', '--workdir=run', f'--port={port}']) == 2
    assert 'no tokenizer files came with this model' in capsys.readouterr().err
    monkeypatch.setattr('launch.playground.find_spec', lambda name: None)
    assert main(['playground', '--workdir=run', f'--port={port}']) == 2
    assert "nicegui: pip install 'lm-lab[playground]'" in capsys.readouterr().err
    assert served == {}
