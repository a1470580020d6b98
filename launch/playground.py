"""Serves a local page on which a model is played with: prompt, settings, streamed text.

Also what the text might have been: probabilities of each token and the likeliest others, and where
each head looked. The page is on this machine only, unless --host says otherwise; then only for who
brings a token. Needs the extra `playground`, and no network.
"""

import ipaddress
import re
import secrets
import socket
from importlib.util import find_spec
from pathlib import Path

from lm.errors import UserError
from lm.flags import Flags

from ._model import define_model, load_model


def define_flags(flags: Flags) -> None:
    """The model, and where the page is."""
    define_model(flags)
    flags.define('host', str, '127.0.0.1', 'address to listen at; 0.0.0.0: all of this machine')
    flags.define('port', int, 7860, 'port to listen at')
    flags.define(
        'token', str, '',
        'who sees the page must bring it; empty: none on this machine, else one is drawn',
    )  # fmt: skip


def main(flags: Flags) -> None:
    """Serves the page until Ctrl-C."""
    if find_spec('nicegui') is None:
        raise UserError("lm playground needs nicegui: pip install 'lm-lab[playground]'")
    host, port, token = flags['host'], flags['port'], flags['token']
    if token and not re.fullmatch(r'[\w-]{8,}', token, re.ASCII):
        raise UserError('--token: must be 8 or more letters, digits, - or _')
    require_free(host, port)
    if not token and not is_loopback(host):
        token = secrets.token_urlsafe(16)
    model = load_model(flags)
    _ = model.tokenizer  # or there is nothing to type
    name = Path(flags['hf'] or flags['workdir']).expanduser().resolve().name
    query = f'/?token={token}' if token else ''
    shown = f'[{host}]' if ':' in host else host
    from lm.playground.page import serve

    serve(
        model, name, host=host, port=port, token=token or None,
        ready=f'lm playground: http://{shown}:{port}{query} (Ctrl-C ends it)',
    )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def require_free(host: str, port: int) -> None:
    """Refuses an address at which nothing can listen.

    Raises:
      UserError: the port is none or is taken, or the host is none of this machine.
    """
    if not 0 < port < 2**16:
        raise UserError(f'--port={port}: must be from 1 to {2**16 - 1}')
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f'--host={host}: no such address ({error})') from None
    with socket.socket(family, kind) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            raise UserError(
                f'--port={port}: cannot listen at {host}:{port} ({error.strerror}); give another'
            ) from None
