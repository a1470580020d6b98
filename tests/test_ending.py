"""A process that dies ends the others: two that are connected and wait, with no model."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm.ending import DIED
from lm.line import Line
from tests.training.test_processes import free_port

ROOT = Path(__file__).parent.parent
SILENT = 5
WAIT = f"""
import sys, time
from launch import main as command
from lm import processes
from lm.ending import ending_together
command._quieten()
processes.SILENT_SECONDS = {SILENT}
processes.connect('localhost:PORT', 3, int(sys.argv[1]), seconds=60)
with ending_together():
    print('ready', flush=True)
    if sys.argv[1:] == ['2']:
        sys.exit(0)  # one that leaves of its own will is not dead
    if sys.stdin.readline() == 'end\\n':
        sys.exit(0)
    while True:
        time.sleep(0.1)
"""


@pytest.fixture
def three() -> Iterator[list['subprocess.Popen[str]']]:
    """Three connected processes; the last one leaves at once."""
    script = WAIT.replace('PORT', str(free_port()))
    started = [
        subprocess.Popen(
            [sys.executable, '-c', script, str(i)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for i in range(3)
    ]  # fmt: skip
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == 'ready\n', process.communicate()[1][-2000:]
        assert started[2].wait(timeout=60) == 0
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.parametrize('victim', [1, 0])
def test_the_death_of_one_is_told_in_one_line_that_names_it(
    victim: int, three: list['subprocess.Popen[str]']
) -> None:
    three[victim].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    survivor = three[1 - victim]
    _, said = survivor.communicate(timeout=60)
    assert survivor.returncode == DIED
    why = [f'not heard of for {SILENT} s', 'its connection broke'][victim == 0]
    host = re.escape(socket.gethostname())
    assert re.fullmatch(
        rf'lm: process {victim} \(host {host}\) died: {why}; '
        'the same command goes on from the last checkpoint\n',
        said,
    )
    assert time.monotonic() - begin < 30


def test_those_that_leave_together_say_nothing(three: list['subprocess.Popen[str]']) -> None:
    # Process 0 first, which the other one speaks through, and which therefore stays.
    for process in three[:2]:
        time.sleep(1)
        assert process.stdin is not None
        process.stdin.write('end\n')
        process.stdin.flush()
    for process in three[:2]:
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, '')


def test_a_line_hands_on_and_stays_open_when_the_other_end_breaks() -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        line = Line(*server.getsockname())
        host, port = line.address.split(':')
        here = socket.create_connection((host, int(port)), timeout=10)
        there, _ = server.accept()
        big = bytes(range(256)) * 4000
        threading.Thread(target=here.sendall, args=(big,)).start()
        got = b''
        while len(got) < len(big):
            got += there.recv(1 << 20)
        assert got == big
        there.sendall(b'answer')
        assert here.recv(6) == b'answer'
        assert not line.broken.is_set()
        there.close()
        assert line.broken.wait(10)
        here.settimeout(0.3)
        with pytest.raises(TimeoutError):
            here.recv(1)  # not an end


def test_a_line_that_is_closed_here_is_not_broken() -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        line = Line(*server.getsockname())
        host, port = line.address.split(':')
        here = socket.create_connection((host, int(port)), timeout=10)
        there, _ = server.accept()
        here.close()
        assert there.recv(1) == b''
        there.close()
        assert not line.broken.wait(0.5)
