"""The line to process 0, which stays open here when it breaks there.

JAX's client ends its process with a native stack trace at the moment that its connection to
process 0 closes. So it is connected to this one, within the process, which hands on what passes
both ways, and on whose break `lm.ending` says in words what happened.
"""

import socket
import threading
import time
from contextlib import suppress

_CONNECT_SECONDS = 30.0
_SILENT_SECONDS = 20
"""After which a machine that no longer answers counts as gone, as the kernel is told."""
_PART = 1 << 16  # bytes


class Line:
    """A port of this process that is as good as process 0's.

    Attributes:
      address: HOST:PORT of it, for this machine alone.
      broken: set once process 0 closed the connection, or fell silent.
    """

    def __init__(self, host: str, port: int) -> None:
        """A line to the address of process 0, opened when JAX connects."""
        self.broken = threading.Event()
        self._there = (host, port)
        self._listening = socket.create_server(('127.0.0.1', 0))
        self.address = f'127.0.0.1:{self._listening.getsockname()[1]}'
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            here, _ = self._listening.accept()
            threading.Thread(target=self._join, args=(here,), daemon=True).start()

    def _join(self, here: socket.socket) -> None:
        there = self._reached()
        if there is None:
            here.close()  # JAX tries again, as long as it was told to
            return
        threading.Thread(target=self._give, args=(here, there), daemon=True).start()
        _pass_on(there, here)
        if _is_open(here):
            self.broken.set()  # `here` stays open: nothing has happened, for JAX
        else:
            here.close()

    def _give(self, here: socket.socket, there: socket.socket) -> None:
        _pass_on(here, there)
        with suppress(OSError):  # the other side is gone as well
            there.shutdown(socket.SHUT_WR)

    def _reached(self) -> socket.socket | None:
        """A connection to process 0, which may not listen yet."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError):
                there = socket.create_connection(self._there, timeout=5)
                there.settimeout(None)
                _heed_silence(there)
                return there
            time.sleep(0.05)
        return None


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Hands on what comes until one of the two is closed."""
    with suppress(OSError):
        while part := source.recv(_PART):
            target.sendall(part)


def _is_open(here: socket.socket) -> bool:
    """Whether the other side, of this machine, has not closed."""
    try:
        return here.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b''
    except BlockingIOError:
        return True
    except OSError:
        return False


def _heed_silence(there: socket.socket) -> None:
    """Lets the kernel close a connection to a machine that no longer answers."""
    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    waits = {'TCP_KEEPIDLE': 5, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': _SILENT_SECONDS // 5 - 1}
    for name, value in {**waits, 'TCP_USER_TIMEOUT': _SILENT_SECONDS * 1000}.items():
        if hasattr(socket, name):  # not on every system
            there.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
