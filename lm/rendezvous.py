"""Where the processes of a run find each other before JAX connects them.

JAX ends a process with a native stack trace if another one does not come; here it is told in words.
Process 0 listens at the coordinator's address, and gives it free once everyone is there.
"""

import socket
import time
from contextlib import ExitStack, suppress

from lm.errors import UserError

_GO = 'go'
_LONGEST = 1000  # bytes of a message


def split_address(words: str, coordinator: str) -> tuple[str, int]:
    """The host and the port of HOST:PORT.

    Raises:
      UserError: it is none; told after `words`.
    """
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f'{words}: must be HOST:PORT')
    return host.strip('[]'), int(port)


def meet(
    words: str, address: tuple[str, int], num_processes: int, process_id: int, seconds: float
) -> None:
    """Returns in every process once all of them are there.

    Args:
      words: what said where the address is, told before what is wrong.
      address: host and port of process 0.
      num_processes: how many there are.
      process_id: which one this is.
      seconds: to wait for the others.

    Raises:
      UserError: one does not come in time, or they do not agree on who they are.
    """
    deadline = time.monotonic() + seconds
    if process_id == 0:
        _Host(words, address[1], num_processes, deadline).gather()
    else:
        _visit(words, address, num_processes, process_id, deadline)


class _Host:
    """Process 0, to which the others come."""

    def __init__(self, words: str, port: int, num_processes: int, deadline: float):
        self._words, self._port = words, port
        self._num_processes, self._deadline = num_processes, deadline
        self._guests: dict[int, socket.socket] = {}

    def gather(self) -> None:
        with ExitStack() as open_sockets:
            try:
                listening = open_sockets.enter_context(socket.create_server(('', self._port)))
            except OSError as error:
                raise UserError(
                    f'{self._words}: cannot listen there ({error.strerror}); give a free port of '
                    'the machine of process 0'
                ) from error
            while len(self._guests) < self._num_processes - 1:
                listening.settimeout(max(self._deadline - time.monotonic(), 0.01))
                try:
                    guest = open_sockets.enter_context(listening.accept()[0])
                except TimeoutError:
                    raise UserError(self._refuse(self._missing())) from None
                self._admit(guest)
            for guest in self._guests.values():
                _send(guest, _GO)
            for guest in self._guests.values():
                _receive(guest)  # its end: who closes first keeps the port busy for a while

    def _admit(self, guest: socket.socket) -> None:
        guest.settimeout(5)
        match _receive(guest).split():
            case ['process', number, 'of', count] if number.isdecimal() and count.isdecimal():
                pass
            case _:
                return  # none of us
        if int(count) != self._num_processes:
            flaw = (
                f'process {number} has --num_processes={count}, process 0 {self._num_processes}; '
                'give both the same'
            )
        elif int(number) in self._guests:
            flaw = f'two processes have --process_id={number}; give each its own'
        else:
            self._guests[int(number)] = guest
            return
        _send(guest, f'{self._words}: {flaw}')
        raise UserError(self._refuse(flaw))

    def _missing(self) -> str:
        wanted = range(1, self._num_processes)
        missing = [str(i) for i in wanted if i not in self._guests]
        return (
            f'process {", ".join(missing[:8])} of {self._num_processes} did not come in time; '
            'start it, or give more --connect_seconds'
        )

    def _refuse(self, flaw: str) -> str:
        """Tells those who came why there is no run; the same words for process 0."""
        words = f'{self._words}: {flaw}'
        for guest in self._guests.values():
            _send(guest, words)
        return words


def _visit(
    words: str, address: tuple[str, int], num_processes: int, process_id: int, deadline: float
) -> None:
    while True:
        try:
            with socket.create_connection(address, timeout=5) as connection:
                _send(connection, f'process {process_id} of {num_processes}')
                # Process 0 gives up by itself, and says why.
                connection.settimeout(max(deadline - time.monotonic(), 0) + 5)
                answer = _receive(connection)
            if answer == _GO:
                return
            if answer:
                raise UserError(answer)
            reason = 'it hung up'
        except socket.gaierror as error:
            # A pod's name is known once the pod is there.
            reason = f'no such machine, {error.strerror}'
        except OSError as error:
            reason = error.strerror or 'no answer'
        if time.monotonic() > deadline:
            raise UserError(
                f'{words}: process 0 cannot be reached ({reason}); start it there, or give more '
                '--connect_seconds'
            )
        time.sleep(0.1)


def _send(connection: socket.socket, words: str) -> None:
    with suppress(OSError):  # it is gone, which JAX will find out
        connection.sendall(f'{words}\n'.encode())


def _receive(connection: socket.socket) -> str:
    """One line, or what came of it before the other side closed."""
    received = b''
    with suppress(OSError):  # late, or gone: no answer
        while not received.endswith(b'\n') and len(received) < _LONGEST:
            part = connection.recv(_LONGEST)
            if not part:
                break
            received += part
    return received.decode(errors='replace').strip()
