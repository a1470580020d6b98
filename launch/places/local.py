"""Processes on this machine, one a GPU or with emulated CPU devices.

Each line of their output comes with the number of its process before it. Ctrl-C and SIGTERM are
handed to all. When one fails the others are given a minute to end by themselves; the exit status is
that of the first that failed, 128 and the signal's number where a signal ended it.
"""

import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO

from lm.errors import UserError
from lm.fields import setting

from ._command import PROGRAM, connected, emulating, require_devices

Argv = tuple[str, ...]

HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.1
ALONE_SECONDS = 60.0
"""For the others to end by themselves once one has failed: they hear of it within half of that."""
SAVE_SECONDS = 30.0
"""After SIGTERM, to save; then they are killed."""


@dataclass(frozen=True)
class Setting:
    """How many processes, and what each of them computes on."""

    num_processes: int | None = setting(None, 'how many; none: one for each GPU of this machine')
    devices: int | None = setting(None, 'emulated CPU devices of each; none: the GPUs, or one CPU')
    port: int = setting(0, 'where process 0 listens for the others; 0: a free one is found')


def describe(setting: Setting, command: Argv) -> str:
    """The command of each process, a line each."""
    return '\n'.join(shlex.join(argv) for argv in _commands(setting, command))


def start(setting: Setting, command: Argv) -> int:
    """Runs them until all have ended; returns the status of the first that failed, or 0.

    Raises:
      UserError: the port is taken, or what is asked for is not here.
    """
    commands = _commands(setting, command)
    if setting.port and len(commands) > 1:
        _require_free(setting.port)
    return Group(commands).run()


def _commands(setting: Setting, command: Argv) -> list[Argv]:
    gpus = _gpus(setting)
    count = setting.num_processes or len(gpus)
    _require(setting, count, gpus)
    if setting.devices is not None or gpus:
        require_devices(command, len(gpus) or count * (setting.devices or 1))
    port = setting.port or _free_port()
    connection = (f'--coordinator=localhost:{port}', f'--num_processes={count}')
    return [
        _environment(setting, gpus[i::count])
        + PROGRAM
        + connected(command, count, (*connection, f'--process_id={i}'))
        for i in range(count)
    ]


def _gpus(setting: Setting) -> list[str]:
    # Imported here: numpy and the like come with it.
    from lm.sweep.local import gpus_here

    return gpus_here() if setting.devices is None else []


def _require(setting: Setting, count: int, gpus: list[str]) -> None:
    """Refuses what this machine has not.

    Raises:
      UserError: the flag, its value, and what there is.
    """
    words = f'--num_processes={setting.num_processes}'
    if setting.num_processes is None and not gpus:
        raise UserError('--num_processes: missing, and there is no GPU here; give how many')
    if count < 1:
        raise UserError(f'{words}: must be at least 1')
    if setting.devices is not None and setting.devices < 1:
        raise UserError(f'--devices={setting.devices}: must be at least 1')
    if not 0 <= setting.port < 2**16:
        raise UserError(f'--port={setting.port}: must be in [0, 65536)')
    if gpus and len(gpus) % count:
        raise UserError(
            f'{words}: the {len(gpus)} GPUs here cannot be shared out evenly; give a number that '
            'divides them, or --devices for emulated CPU devices'
        )


def _environment(setting: Setting, gpus: list[str]) -> Argv:
    """`env NAME=VALUE ...`, which executes what follows it."""
    if gpus:
        return ('env', f'CUDA_VISIBLE_DEVICES={",".join(gpus)}')
    return () if setting.devices is None else emulating(setting.devices)


def _free_port() -> int:
    with socket.create_server(('', 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    try:
        socket.create_server(('', port)).close()
    except OSError as error:
        raise UserError(
            f'--port={port}: cannot listen there ({error.strerror}); give another one, or 0 for '
            'any that is free'
        ) from error


class Group:
    """The processes of one run, started together and ended together."""

    def __init__(self, commands: list[Argv]):
        self._commands = commands
        self._processes: list[subprocess.Popen[bytes]] = []
        self._printing = threading.Lock()

    def run(self) -> int:
        """Returns the status of the first that failed, or 0."""
        with ExitStack() as undo:
            for number in HANDED_ON:
                undo.callback(signal.signal, number, signal.signal(number, self._hand_on))
            readers = [reader for i in range(len(self._commands)) for reader in self._start(i)]
            undo.callback(self._kill)
            status = self._wait()
        for reader in readers:
            reader.join()
        return status

    def _start(self, i: int) -> list[threading.Thread]:
        """Starts process `i`, in a group of its own: a terminal's Ctrl-C comes by us, once."""
        process = subprocess.Popen(
            self._commands[i], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None and process.stderr is not None
        pipes = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        readers = [threading.Thread(target=self._pass_on, args=(i, *pair)) for pair in pipes]
        for reader in readers:
            reader.start()
        return readers

    def _pass_on(self, i: int, pipe: IO[bytes], to: IO[str]) -> None:
        for line in pipe:
            text = line.decode(errors='replace').removesuffix('\n')
            with self._printing:
                print(f'[{i}] {text}', file=to, flush=True)

    def _wait(self) -> int:
        """Until all have ended, or had time to after the first that failed."""
        running, failed, deadline = dict(enumerate(self._processes)), 0, float('inf')
        signals = iter((signal.SIGTERM, signal.SIGKILL))
        while running:
            time.sleep(LOOK_SECONDS)
            for i in [i for i, process in running.items() if process.poll() is not None]:
                status = running.pop(i).returncode
                if status and not failed:
                    failed, deadline = _exit_status(status), time.monotonic() + ALONE_SECONDS
                    self._tell(i, status)
            if running and time.monotonic() > deadline:
                deadline = time.monotonic() + SAVE_SECONDS
                for process in running.values():
                    process.send_signal(next(signals, signal.SIGKILL))
        return failed

    def _tell(self, i: int, status: int) -> None:
        how = f'was ended by {signal.Signals(-status).name}' if status < 0 else f'ended: {status}'
        if len(self._processes) > 1:
            print(f'lm launch: process {i} {how}', file=sys.stderr, flush=True)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def _kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()


def _exit_status(status: int) -> int:
    """As a shell tells it: 128 and the signal's number, where a signal ended the process."""
    return status if status >= 0 else 128 - status
