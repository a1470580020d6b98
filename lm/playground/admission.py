"""Who may see the page: those who bring its token."""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = 'lm_playground'
"""Keeps the token once an address brought it."""


class Admission:
    """Refuses every request, sockets too, without the token in its address or its cookie."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or refuses it."""
        if scope['type'] not in ('http', 'websocket') or self._is(_cookie(scope)):
            await self._app(scope, receive, send)
        elif scope['type'] == 'websocket':
            await send({'type': 'websocket.close', 'code': 1008})
        elif self._is(*parse_qs(scope['query_string'].decode('latin-1')).get('token', [''])[:1]):
            # To the same place without the token, so that it stays in no history.
            response = RedirectResponse(scope['path'], 303)
            response.set_cookie(COOKIE, self._token, httponly=True, samesite='strict')
            await response(scope, receive, send)
        else:
            words = 'lm playground: add ?token=... to the address, as it was printed at the start\n'
            await PlainTextResponse(words, 401)(scope, receive, send)

    def _is(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _cookie(scope: Scope) -> str:
    for name, value in scope['headers']:
        if name == b'cookie':
            try:
                found = SimpleCookie(value.decode('latin-1')).get(COOKIE)
            except CookieError:
                return ''
            return '' if found is None else found.value
    return ''
