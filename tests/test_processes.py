"""How processes find each other, and what is said where they do not."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launch.main import main
from lm import processes
from lm.errors import UserError
from lm.rendezvous import meet
from tests.training.test_processes import free_port


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--coordinator=h:1'], '--num_processes: missing beside --coordinator'),
        (['--process_id=0'], '--coordinator: missing beside --process_id'),
        (
            ['--coordinator=h:1', '--num_processes=2', '--process_id=2'],
            '--process_id=2: must be in [0, 2)',
        ),
        (
            ['--coordinator=h:1', '--num_processes=0', '--process_id=0'],
            '--num_processes=0: must be at least 1',
        ),
        (
            ['--coordinator=host', '--num_processes=2', '--process_id=1'],
            '--coordinator=host: must be HOST:PORT',
        ),
        (
            ['--coordinator=h:70000', '--num_processes=2', '--process_id=1'],
            '--coordinator=h:70000: must be HOST:PORT',
        ),
        (
            ['--distributed', '--process_id=1'],
            '--process_id: --distributed finds it out; give one of the two',
        ),
        (['--num_processes=two'], '--num_processes=two: '),
    ],
)
def test_flags_that_contradict_each_other(
    words: list[str], told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(['train', f'--workdir={tmp_path / "run"}', *words]) == 2
    said = capfd.readouterr().err
    assert said.count('\n') == 1
    assert said.startswith(f'lm train: {told}')
    assert not (tmp_path / 'run').exists()


def at(port: int, host: str = 'localhost') -> tuple[str, tuple[str, int]]:
    """Where process 0 is: the words for it, and the address."""
    return f'--coordinator={host}:{port}', (host, port)


def test_a_coordinator_that_is_not_there_or_whose_port_is_taken() -> None:
    port = free_port()
    with pytest.raises(UserError, match='process 0 cannot be reached'):
        meet(*at(port), 2, 1, seconds=0.3)
    with pytest.raises(UserError, match='process 1, 2 of 3 did not come in time'):
        meet(*at(port), 3, 0, seconds=0.3)
    with (
        socket.create_server(('', port)),
        pytest.raises(UserError, match=f'--coordinator=localhost:{port}: cannot listen there'),
    ):
        meet(*at(port), 2, 0, seconds=0.3)


def test_the_name_of_process_0_may_come_to_be_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    port, asked, known = free_port(), [], socket.getaddrinfo

    def look_up(host: str, *more: Any, **others: Any) -> Any:
        if host != 'pod-0.run':
            return known(host, *more, **others)
        asked.append(host)
        if len(asked) <= 3:
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        return known('localhost', *more, **others)

    monkeypatch.setattr(socket, 'getaddrinfo', look_up)
    with pytest.raises(UserError, match='cannot be reached .no such machine, Name or service not'):
        meet(*at(port, 'pod-0.run'), 2, 1, seconds=0.15)
    thread = threading.Thread(target=meet, args=(*at(port), 2, 0, 5))
    thread.start()
    meet(*at(port, 'pod-0.run'), 2, 1, seconds=5)
    thread.join()
    assert len(asked) > 3


def told(port: int, *parties: tuple[int, int]) -> list[str]:
    """What each (number of processes, process id) hears: nothing where all have met."""
    heard = [''] * len(parties)

    def come(place: int, count: int, process: int) -> None:
        try:
            meet(*at(port), count, process, seconds=5)
        except UserError as error:
            heard[place] = str(error)

    threads = [
        threading.Thread(target=come, args=(place, *party)) for place, party in enumerate(parties)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard


def test_processes_meet_or_hear_why_not() -> None:
    port = free_port()
    assert told(port, (3, 2), (3, 0), (3, 1)) == ['', '', '']
    assert told(port, (2, 0), (2, 1)) == ['', '']  # the port is free again
    counts = told(port, (2, 0), (3, 1))
    assert counts[0] == counts[1]
    assert 'process 1 has --num_processes=3, process 0 2; give both the same' in counts[0]
    [first, *others] = told(port, (3, 0), (3, 1), (3, 1))
    assert 'two processes have --process_id=1; give each its own' in first
    assert others == [first, first]


def test_a_stranger_at_the_port_is_no_process() -> None:
    port = free_port()
    heard: list[str] = []
    thread = threading.Thread(target=lambda: heard.extend(told(port, (2, 0))))
    thread.start()
    while True:
        try:
            with socket.create_connection(('localhost', port)) as stranger:
                stranger.sendall(b'GET / HTTP/1.1\r\n\n')
            break
        except ConnectionRefusedError:
            pass
    meet(*at(port), 2, 1, seconds=5)
    thread.join()
    assert heard == ['']


def test_one_process_agrees_with_itself() -> None:
    assert (processes.index(), processes.count()) == (0, 1)
    assert processes.from_first(lambda: {'a': 1}) == {'a': 1}
    assert processes.gathered('x') == ['x']
    assert processes.all_or_none(lambda: 3) == 3
    processes.connect(None, None, None)
    assert processes.count() == 1


def test_no_cluster_to_be_detected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(['train', f'--workdir={tmp_path / "run"}', '--distributed']) == 2
    said = capfd.readouterr().err
    assert said.startswith('lm train: --distributed: no Slurm, Open MPI, TPU pod or GKE job')
    assert said.count('\n') == 1


def test_process_0_of_a_slurm_job_that_cannot_be_reached(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    job = {'JOB_ID': 7, 'STEP_NODELIST': 'localhost', 'NTASKS': 2, 'PROCID': 1, 'LOCALID': 1}
    for name, value in job.items():
        monkeypatch.setenv(f'SLURM_{name}', str(value))
    monkeypatch.setenv('JAX_COORDINATOR_PORT', str(port))
    words = ['--distributed', '--connect_seconds=0.3', f'--workdir={tmp_path / "run"}']
    begin = time.monotonic()
    assert main(['train', *words]) == 2
    assert time.monotonic() - begin < 30
    assert capfd.readouterr().err == (
        f'lm train: --distributed: coordinator localhost:{port}: process 0 cannot be reached '
        '(Connection refused); start it there, or give more --connect_seconds\n'
    )
