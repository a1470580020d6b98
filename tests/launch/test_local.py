"""`lm launch local`: processes that are started, heard and ended together."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from launch.main import main
from launch.places import local
from launch.places.local import Group
from tests.training.test_processes import free_port


def python(*scripts: str) -> list[tuple[str, ...]]:
    return [(sys.executable, '-c', script) for script in scripts]


def test_all_that_is_said_comes_through_with_its_number(
    capfd: pytest.CaptureFixture[str],
) -> None:
    script = (
        'import sys\n'
        'for i in range(3000): print({0}, i)\n'
        'print("wrong", {0}, file=sys.stderr)\n'
        'print("no end", end="")'
    )
    assert Group(python(script.format(0), script.format(1))).run() == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    for n in range(2):
        own = [line for line in lines if line.startswith(f'[{n}] ')]
        assert own == [f'[{n}] {n} {i}' for i in range(3000)] + [f'[{n}] no end']
    assert len(lines) == 2 * 3001
    assert sorted(err.splitlines()) == ['[0] wrong 0', '[1] wrong 1']


def test_the_status_is_that_of_the_first_that_failed_and_all_end(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, 'ALONE_SECONDS', 0.3)
    monkeypatch.setattr(local, 'SAVE_SECONDS', 0.3)
    deaf = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)'
    begin = time.monotonic()
    assert Group(python(deaf, 'import time; time.sleep(1); raise SystemExit(3)')).run() == 3
    assert time.monotonic() - begin < 30
    assert capfd.readouterr().err == 'lm launch: process 1 ended: 3\n'
    killed = 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'
    assert Group(python('print()', killed)).run() == 128 + signal.SIGKILL
    assert capfd.readouterr().err == 'lm launch: process 1 was ended by SIGKILL\n'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_handed_to_all_once(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        'import os, signal, sys, time\n'
        'heard = []\n'
        f'signal.signal({int(number)}, lambda n, f: heard.append(n))\n'
        'print("ready", flush=True)\n'
        'while not heard: time.sleep(0.01)\n'
        'time.sleep(0.3)\n'
        'print(heard)\n'
        'assert os.getpgrp() == os.getpid()\n'  # a terminal's Ctrl-C comes by the launcher alone
        'sys.exit(128 + heard[0])'
    )
    group = Group(python(script, script))
    heard: list[str] = []

    def send() -> None:
        while heard.count('ready') < 2:
            heard.extend(capfd.readouterr().out.replace('[0] ', '').replace('[1] ', '').split('\n'))
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=send).start()
    assert group.run() == 128 + number
    assert capfd.readouterr().out.count(f'] [{int(number)}]') == 2
    assert signal.getsignal(number) is before


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(('', 0)) as server:
        port = server.getsockname()[1]
        words = [f'--port={port}', '--num_processes=2', '--', 'train', '--workdir=w']
        assert main(['launch', 'local', *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'lm launch: --port={port}: cannot listen there (Address already in us')
    assert said.endswith('give another one, or 0 for any that is free\n') and said.count('\n') == 1


def test_two_processes_are_one_run_of_the_devices_of_both(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / 'words.txt'
    text.write_text('A few words are enough.\n' * 200)
    data = [f'--config.data.source={text}', f'--config.data.cache_dir={tmp_path}/cache']
    flags = ['--num_processes=2', '--devices=3', f'--port={free_port()}']
    shape = [
        '--config.train.batch_size=6',
        '--config.data.tokenizer=char',
        '--config.model.vocab_size=none',
    ]
    command = ['train', '--describe', '--config=llama_tiny', *data, *shape]
    assert main(['launch', 'local', *flags, '--', *command]) == 0
    out = capfd.readouterr().out
    assert '[0] devices    6 x cpu (cpu)' in out
    assert '[1]' not in out  # process 0 speaks for both
