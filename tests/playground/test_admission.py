"""Who brings the token is let in, and nobody else, by no kind of connection."""

import asyncio
from typing import Any

import pytest

pytest.importorskip('starlette', reason='nicegui, of the extra playground, brings it')

from lm.playground.admission import COOKIE, Admission

TOKEN = 'a-token-of-12'


def asked(kind: str, query: str = '', cookie: str = '') -> tuple[bool, list[dict[str, Any]]]:
    """Whether the page was reached, and what was sent back otherwise."""
    reached, sent = [], []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b'cookie', cookie.encode())] if cookie else []
    scope = {'type': kind, 'path': '/p', 'query_string': query.encode(), 'headers': headers}
    asyncio.run(Admission(page, TOKEN)({**scope, 'method': 'GET'}, None, send))  # type: ignore[arg-type]
    return bool(reached), sent


@pytest.mark.parametrize('kind', ['http', 'websocket'])
@pytest.mark.parametrize(
    ('cookie', 'let_in'),
    [('', False), (f'{COOKIE}=other', False), ('=;=', False), (f'x=1; {COOKIE}={TOKEN}', True)],
)
def test_a_cookie_lets_in(kind: str, cookie: str, let_in: bool) -> None:
    reached, sent = asked(kind, cookie=cookie)
    assert reached == let_in
    if not let_in:
        refusal = sent[0]
        assert refusal.get('status', refusal.get('code')) == (401 if kind == 'http' else 1008)


def test_the_address_gives_the_cookie_once() -> None:
    reached, sent = asked('http', f'a=b&token={TOKEN}')
    headers = {name: value.decode() for name, value in sent[0]['headers']}
    assert not reached and sent[0]['status'] == 303
    assert headers[b'location'] == '/p'
    assert headers[b'set-cookie'].startswith(f'{COOKIE}={TOKEN};')
    assert 'HttpOnly' in headers[b'set-cookie'] and 'SameSite=strict' in headers[b'set-cookie']
    for wrong in ('', 'token=', 'token=other', f'token={TOKEN}x'):
        assert asked('http', wrong)[1][0]['status'] == 401
    assert asked('lifespan')[0]
