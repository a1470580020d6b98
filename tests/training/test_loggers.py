"""Who else is told of a run: one's own logger, Weights & Biases offline, MLflow in a folder."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import lm
from lm import UserError, registry
from tests.training.runs import Runs, read_rows
from tests.training.test_loop import fail_at

BLOCK, WHOLE, LAST = 32768, 1, 4
STEPS = {'train__steps': 12, 'eval__every_steps': 5}


class Mine:
    """A logger of a user's own: keeps what it is told."""

    PACKAGES = ()
    begun: ClassVar[list['Mine']] = []

    def __init__(self, name: str, config: dict[str, Any], run_id: str | None):
        self.name, self.config, self.before = name, config, run_id
        self.run_id = run_id or 'first'
        self.told: list[tuple[int, dict[str, float]]] = []
        self.closed: list[Any] = []

    @classmethod
    def start(cls, name: str, config: dict[str, Any], workdir: Path, run_id: str | None) -> 'Mine':
        assert workdir.is_dir()
        made = cls(name, config, run_id)
        Mine.begun.append(made)
        return made

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.told.append((step, numbers))

    def close(self, summary: dict[str, Any] | None) -> None:
        self.closed.append(summary)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> list[Mine]:
    monkeypatch.setattr(registry, '_registered', {**registry._registered})
    lm.register('loggers', 'mine', Mine)
    Mine.begun = []
    return Mine.begun


def numbers_of(workdir: Path) -> list[tuple[int, dict[str, float]]]:
    """What a logger is told of a run of `STEPS`, in turn, from the workdir's own files."""
    found = []
    evaluations = {row['step']: row for row in read_rows(workdir / 'eval.jsonl')}
    for row in read_rows(workdir / 'metrics.jsonl'):
        step = row.pop('step')
        found.append((step, {name: value for name, value in row.items() if value is not None}))
        if step in evaluations:
            bits = {k: v for k, v in evaluations[step].items() if k == 'bits_per_byte'}
            found.append((step, {'eval_loss': evaluations[step]['loss'], **bits}))
    return found


def test_a_users_own_logger_is_told_all_of_a_run(
    mine: list[Mine], runs: Runs, tmp_path: Path
) -> None:
    workdir = tmp_path / 'a_run'
    summary = runs.train('llama', workdir, train__loggers=('mine',), **STEPS)
    [logger] = mine
    assert (logger.name, logger.before) == ('a_run', None)
    assert logger.config['model.d_model'] == 32
    assert logger.config['train.loggers'] == ('mine',)
    assert logger.told == numbers_of(workdir)
    assert [step for step, told in logger.told if 'eval_loss' in told] == [5, 10, 12]
    assert logger.closed == [summary]
    # Finished: nobody is told. Extended: the same record, with what the extension took.
    runs.train('llama', workdir, train__loggers=('mine',), **STEPS)
    assert len(mine) == 1
    runs.train('llama', workdir, train__loggers=('mine',), **{**STEPS, 'train__steps': 14})
    assert [one.before for one in mine] == [None, 'first']
    assert [step for step, told in mine[1].told if 'loss' in told] == [13, 14]
    # Whether a run is logged may change; what it computes does not.
    plain = runs.train('llama', tmp_path / 'plain', **STEPS)
    assert plain['params_sha256'] == summary['params_sha256']
    assert not (tmp_path / 'plain' / 'loggers.json').exists()


def test_a_logger_is_closed_when_the_run_fails(
    mine: list[Mine], runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(5, RuntimeError('in the loop'), monkeypatch)
    with pytest.raises(RuntimeError, match='in the loop'):
        runs.train('llama', tmp_path, train__loggers=('mine',), **STEPS)
    assert mine[0].closed == [None]
    assert [step for step, _ in mine[0].told] == [1, 2, 3]


def test_a_logger_that_fails_is_told_of_and_left_out(
    mine: list[Mine],
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = Mine.log

    def refuses(self: Mine, step: int, numbers: dict[str, float]) -> None:
        if step == 3:
            raise ConnectionError('no route to host\nmore')
        log(self, step, numbers)

    monkeypatch.setattr(Mine, 'log', refuses)
    assert runs.train('llama', tmp_path / 'run', train__loggers=('mine',), **STEPS)['steps'] == 12
    words = (
        'lm: train.loggers=mine: failed at step 3 and is left out from here on (no route to host)'
    )
    assert words in capsys.readouterr().err.splitlines()
    assert (len(mine[0].told), mine[0].closed) == (2, [None])

    # One that cannot even be started ends the run before it begins, and closes the others.
    class Shut(Mine):
        @classmethod
        def start(cls, *args: Any) -> Any:
            raise ConnectionError('no route to host')

    lm.register('loggers', 'shut', Shut)
    with pytest.raises(UserError, match=r'^train.loggers=shut: cannot be started \(no route to h'):
        runs.train('llama', tmp_path / 'other', train__loggers=('mine', 'shut'), **STEPS)
    assert mine[1].closed == [None]
    assert not (tmp_path / 'other' / 'metrics.jsonl').exists()


def test_what_is_missing_is_told_in_a_line(mine: list[Mine], runs: Runs, tmp_path: Path) -> None:
    class Elsewhere(Mine):
        PACKAGES = ('no_such_package',)

    lm.register('loggers', 'elsewhere', Elsewhere)
    words = r"^train.loggers=elsewhere: needs the package no_such_.*; pip install 'lm-lab\[elsewhe"
    with pytest.raises(UserError, match=words):
        runs.train('llama', tmp_path / 'run', train__loggers=('elsewhere',))
    assert not (tmp_path / 'run').exists()
    with pytest.raises(UserError, match=r'train.loggers=wandd: no such member; did you mean wandb'):
        runs.config('llama', train__loggers=('wandd',))
    with pytest.raises(UserError, match=r'train.loggers=mine,mine: names one of them twice'):
        runs.config('llama', train__loggers=('mine', 'mine'))


def wandb_records(workdir: Path) -> list[list[Any]]:
    """The records of each time that the run went on, oldest first."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted(workdir.glob('wandb/offline-run-*/run-*.wandb'))
    return [[Record.FromString(body) for body in bodies(file.read_bytes())] for file in files]


def bodies(log: bytes) -> Iterator[bytes]:
    """What a file of wandb's holds: LevelDB's log format, after a header of 7 bytes."""
    place, body = 7, b''
    while len(log) - place >= 7:
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from('<IHB', log, place)
        body += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (WHOLE, LAST):
            yield body
            body = b''


def test_wandb_offline(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('WANDB_MODE', 'offline')
    on = {**STEPS, 'train__loggers': ('wandb',), 'train__log_every_steps': 4}
    summary = runs.train('llama', tmp_path, **on)
    assert capfd.readouterr().out == ''
    runs.train('llama', tmp_path, **{**on, 'train__steps': 16})
    first, second = wandb_records(tmp_path)
    run_id = json.loads((tmp_path / 'loggers.json').read_text())['wandb']
    for records in (first, second):
        [run] = {r.run.run_id for r in records if r.HasField('run')}
        assert run == run_id
    told: list[dict[str, Any]] = [
        {
            item.key or '.'.join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in first
        if r.HasField('history')
    ]
    losses = {row['step']: row['loss'] for row in told if 'loss' in row}
    assert losses == {row['step']: row['loss'] for row in read_rows(tmp_path / 'metrics.jsonl')[:3]}
    assert [row['step'] for row in told if 'eval_loss' in row] == [5, 10, 12]
    at_the_end = {
        item.key: json.loads(item.value_json)
        for r in first
        if r.HasField('summary')
        for item in r.summary.update
    }
    assert at_the_end['params_sha256'] == summary['params_sha256']
    assert [r.exit.exit_code for r in first if r.HasField('exit')] == [0]


def test_mlflow_in_a_folder(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on = {**STEPS, 'train__loggers': ('mlflow',), 'train__log_every_steps': 4}
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    with pytest.raises(UserError, match=r'cannot be started \(MLFLOW_TRACKING_URI is not set;'):
        runs.train('llama', tmp_path / 'run', **on)
    monkeypatch.setenv('MLFLOW_TRACKING_URI', (tmp_path / 'store').as_uri())
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    summary = runs.train('llama', tmp_path / 'run', **on)
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name('lm')
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ('run', 'FINISHED')
    assert run.data.params['model.d_model'] == '32'
    assert run.data.tags['summary.params_sha256'] == summary['params_sha256']

    runs.train('llama', tmp_path / 'run', **{**on, 'train__steps': 16})
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.params['train.steps'] == '12'
    assert run.data.tags['train.steps'] == '16'
    losses = client.get_metric_history(run.info.run_id, 'loss')
    rows = read_rows(tmp_path / 'run' / 'metrics.jsonl')
    assert [(m.step, m.value) for m in losses] == [(row['step'], row['loss']) for row in rows]
    evaluated = client.get_metric_history(run.info.run_id, 'eval_loss')
    assert [m.step for m in evaluated] == [5, 10, 12, 15, 16]
