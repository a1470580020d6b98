"""Several processes as one run: gloo between two of them with 4 emulated CPU devices each."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lm.batch import Batch
from lm.data.prepare import prepare
from lm.ending import DIED
from lm.resolution import override
from lm.training import session
from lm.training.evaluate import packed_rows
from lm.training.program import build_program
from lm.training.record import params_sha256
from lm.training.saved import SavedStates
from tests.training.runs import Runs, last_step, one_line, read_rows, saved_steps, wait_for

BATCH = 8
ZERO3 = {'mesh__devices': 8, 'mesh__strategy': 'zero3'}
EIGHT_ALONE = {'mesh__devices': 8, 'mesh__strategy': 'zero2'}
ROWS_LOG = 'LM_TEST_ROWS'
"""The variable that names the file to which a process writes the rows of each step."""


def free_port() -> int:
    with socket.create_server(('localhost', 0)) as server:
        port: int = server.getsockname()[1]
        return port


def log_rows(path: Path) -> None:
    """Makes every step of a run write which rows of its batch the devices here read, and their
    tokens."""
    run_loop = session.run_loop

    def logged_loop(program: Any, take_step: Any, *args: Any, **words: Any) -> Any:
        def logged_step(state: Any, batch: Batch) -> Any:
            step = int(state.step)
            with path.open('a') as file:
                for first, tokens_BT in parts(batch.tokens):
                    for i, tokens in enumerate(tokens_BT.tolist()):
                        file.write(json.dumps([step * BATCH + first + i, tokens]) + '\n')
            return take_step(state, batch)

        return run_loop(program, logged_step, *args, **words)

    session.run_loop = logged_loop


def parts(tokens: Any) -> Iterator[tuple[int, np.ndarray]]:
    """The first row and the rows of each part of an array that lies here."""
    if isinstance(tokens, np.ndarray):
        yield 0, tokens
        return
    for shard in tokens.addressable_shards:
        yield shard.index[0].start or 0, np.asarray(shard.data)


START = (
    'import os, sys; from pathlib import Path; from launch.main import main\n'
    'from tests.training import test_processes\n'
    f'test_processes.log_rows(Path(os.environ["{ROWS_LOG}"]))\n'
    'sys.exit(main())'
)


class Pair:
    """Two processes of one run, and the rows that each of them read."""

    def __init__(
        self, runs: Runs, workdir: Path, logs: Path, family: str = 'llama', **overrides: Any
    ):
        logs.mkdir()
        self.family = family
        self.logs = [logs / f'{i}.jsonl' for i in range(2)]
        port = free_port()
        self.processes = [
            self._start(runs, workdir, i, port, **{**ZERO3, **overrides}) for i in range(2)
        ]

    def _start(self, runs: Runs, workdir: Path, i: int, port: int, **overrides: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            flags = os.environ['XLA_FLAGS']  # of what is given twice the last one counts
            patch.setenv('XLA_FLAGS', f'{flags} --xla_force_host_platform_device_count=4')
            patch.setenv(ROWS_LOG, str(self.logs[i]))
            return runs.start(
                self.family, workdir, f'--coordinator=localhost:{port}', '--num_processes=2',
                f'--process_id={i}', prefix=(sys.executable, '-c', START), **overrides,
            )  # fmt: skip

    def ended(self) -> list[tuple[int, str]]:
        """Exit status and stderr of both."""
        try:
            said = [process.communicate(timeout=240)[1] for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [(p.returncode, words) for p, words in zip(self.processes, said, strict=True)]


def rows_read(logs: list[Path]) -> dict[int, list[int]]:
    """Tokens by the row's number; rows read twice are read the same."""
    rows: dict[int, list[int]] = {}
    for log in logs:
        for number, tokens in read_rows(log):
            assert rows.setdefault(number, tokens) == tokens
    return rows


def rows_of_the_index(runs: Runs, count: int) -> dict[int, list[int]]:
    """What the packing index has in the first rows, as the model reads it."""
    config = runs.config('llama')
    prepared = prepare(config.data, config.model.vocab_size)
    program = program_of(runs, 1)
    rows = packed_rows(program.objective, prepared, config.train.seed, held_out=False)
    draw = np.random.default_rng(0)
    return {
        i: np.asarray(program.objective.example(rows.row(i), draw).tokens).tolist()
        for i in range(count)
    }


def program_of(runs: Runs, devices: int, **overrides: Any) -> Any:
    """The program of a run, with the vocabulary of its text."""
    config = runs.config('llama', mesh__devices=devices, precision__policy='fp32', **overrides)
    prepared = prepare(config.data, config.model.vocab_size)
    vocabulary = prepared.tokenizer.vocabulary
    sized = override(config, {'model.vocab_size': vocabulary.size})
    return build_program(sized, vocabulary)


def losses(workdir: Path) -> list[float]:
    return [row['loss'] for row in read_rows(workdir / 'metrics.jsonl')]


def test_two_processes_are_one_run(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, more = 10, 16
    often = {'checkpoint__every_steps': 4, 'eval__every_steps': 5, 'eval__sample_tokens': 4}
    runs.train('llama', tmp_path / 'one', train__steps=more, **ZERO3)
    pair = Pair(runs, tmp_path / 'two', tmp_path / 'logs', train__steps=steps, **often)
    (status, said), (other_status, other_said) = pair.ended()
    assert (status, other_status) == (0, 0), said + other_said
    assert 'held out   whole' in said and 'sample: ' in said
    assert all('Gloo' in line for line in other_said.splitlines()), other_said

    # The same losses; each process read its own half of the rows, both together every row once.
    np.testing.assert_allclose(losses(tmp_path / 'two'), losses(tmp_path / 'one')[:steps], 1e-6)
    wanted = rows_of_the_index(runs, more * BATCH)
    assert rows_read(pair.logs) == {i: wanted[i] for i in range(steps * BATCH)}
    halves = [{number % BATCH for number in rows_read([log])} for log in pair.logs]
    assert halves == [{0, 1, 2, 3}, {4, 5, 6, 7}]
    summary = json.loads((tmp_path / 'two' / 'summary.json').read_text())
    tokens = summary['data'][next(iter(summary['data']))]['tokens']
    assert tokens['trained_on'] == tokens['read'] > 0

    # What both wrote, read by one process with 1 device and with 8: equal to the last bit.
    saved = SavedStates(tmp_path / 'two' / 'checkpoints')
    programs = (program_of(runs, 1), program_of(runs, 8, mesh__strategy='zero3'))
    one, eight = (saved.read(steps, p.abstract_state)[0] for p in programs)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
    assert params_sha256(one.params) == params_sha256(eight.params) == summary['params_sha256']

    # Extended by one process on another mesh: the next rows, each once, and the same losses.
    monkeypatch.setattr(session, 'run_loop', session.run_loop)
    log_rows(tmp_path / 'more.jsonl')
    mesh = {'mesh__devices': 4, 'mesh__strategy': 'ddp'}
    runs.train('llama', tmp_path / 'two', train__steps=more, **mesh, **often)
    extended = rows_read([tmp_path / 'more.jsonl'])
    assert extended == {i: wanted[i] for i in range(steps * BATCH, more * BATCH)}
    np.testing.assert_allclose(losses(tmp_path / 'two'), losses(tmp_path / 'one'), 1e-5)


def test_texts_are_said_by_both_processes(runs: Runs, tmp_path: Path) -> None:
    source = tmp_path / 'words.jsonl'
    records = [{'input': f'{a} {b}', 'target': f'{b} {a}'} for a in 'abcde' for b in 'fghij']
    source.write_text('\n'.join(map(json.dumps, records)))
    task = {
        'objective__name': 'text_to_text', 'data__source': str(source), 'train__steps': 3,
        'data__validation_source': str(source), 'precision__policy': 'fp32',
    }  # fmt: skip
    one = runs.train('t5', tmp_path / 'one', **ZERO3, **task)
    pair = Pair(runs, tmp_path / 'two', tmp_path / 'logs', family='t5', **task)
    (status, said), (other_status, other_said) = pair.ended()
    assert (status, other_status) == (0, 0), said + other_said
    two = json.loads((tmp_path / 'two' / 'summary.json').read_text())
    assert two['measures'] == one['measures']


def test_a_signal_to_one_process_stops_both_at_one_step(runs: Runs, tmp_path: Path) -> None:
    # Begun by one process on another mesh; what came after the plateau is taken again.
    workdir, plateau = tmp_path / 'run', 6
    wsd = {'optim__schedule': 'wsd', 'optim__decay_steps': 2}
    runs.train('llama', workdir, train__steps=8, **wsd)
    assert saved_steps(workdir) == [plateau, 8]
    long = {'train__steps': 3000, 'checkpoint__every_steps': 5000, 'eval__every_steps': 5000}
    pair = Pair(runs, workdir, tmp_path / 'logs', **wsd, **long)
    wait_for(pair.processes[0], lambda: last_step(workdir) == plateau)
    wait_for(pair.processes[1], lambda: last_step(workdir) >= plateau + 3)
    pair.processes[1].send_signal(signal.SIGTERM)
    (status, said), (other_status, other_said) = pair.ended()
    assert (status, other_status) == (143, 143), said + other_said
    [first, step] = saved_steps(workdir)
    assert (first, last_step(workdir)) == (plateau, step)
    assert step < 3000
    assert f'lm: saved at step {step}; the same command goes on' in said
    assert 'SIGTERM: saving' in other_said
    assert sorted(rows_read(pair.logs)) == list(range(plateau * BATCH, step * BATCH))


def test_an_error_in_one_process_ends_both(runs: Runs, tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    workdir.mkdir()
    (workdir / 'eval.jsonl').symlink_to(tmp_path / 'nowhere' / 'eval.jsonl')
    pair = Pair(runs, workdir, tmp_path / 'logs', eval__every_steps=3)
    (status, said), (other_status, other_said) = pair.ended()
    assert (status, other_status) == (2, 2), said + other_said
    words = f'{workdir}/eval.jsonl: cannot be written (No such file or directory)'
    assert one_line(said) == f'lm train: {words}'
    assert other_said.splitlines()[-1] == f'lm: process 0: {words}'


def test_processes_that_were_started_with_different_words(runs: Runs, tmp_path: Path) -> None:
    # The second one is given another seed.
    class Different(Pair):
        def _start(self, runs: Runs, workdir: Path, i: int, port: int, **overrides: Any) -> Any:
            return super()._start(runs, workdir, i, port, **overrides, train__seed=i)

    pair = Different(runs, tmp_path / 'run', tmp_path / 'logs')
    for status, said in pair.ended():
        assert status == 2, said
        assert one_line(said) == (
            'lm train: train.seed=1: in process 1, and 0 in process 0; give one'
        )


@pytest.mark.slow  # twice, the half of a minute after which a silent process counts as dead
@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_process_ends_the_other_and_one_alone_goes_on(
    victim: int, runs: Runs, tmp_path: Path
) -> None:
    workdir, steps = tmp_path / 'run', 200
    often = {'checkpoint__every_steps': 5, 'eval__every_steps': 1000, 'train__steps': steps}
    pair = Pair(runs, workdir, tmp_path / 'logs', **often)
    wait_for(pair.processes[0], lambda: last_step(workdir) >= 12)
    pair.processes[victim].kill()
    begin = time.monotonic()
    status, said = pair.ended()[1 - victim]
    assert time.monotonic() - begin < 60
    assert status == DIED
    assert 'Traceback' not in said and 'stack trace' not in said
    host = socket.gethostname()
    assert said.splitlines()[-1].startswith(f'lm: process {victim} (host {host}) died: ')
    # Whatever was being written when the two were ended: what is there is whole.
    assert 10 <= saved_steps(workdir)[-1] < steps
    runs.train('llama', workdir, **often, **EIGHT_ALONE)
    runs.train('llama', tmp_path / 'straight', **often, **EIGHT_ALONE)
    rows = read_rows(workdir / 'metrics.jsonl')
    assert [row['step'] for row in rows] == list(range(1, steps + 1))
    np.testing.assert_allclose(losses(workdir), losses(tmp_path / 'straight'), 1e-4)
