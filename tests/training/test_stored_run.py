"""A run in a store: the same as on a disk, whatever moment it was killed at."""

import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import lm
from launch.main import main
from lm.errors import UserError
from lm.storage import Store
from lm.training.stored_run import StoredRun
from tests.stores import BUCKET, put
from tests.training.runs import CONFIG, Runs, same_run, wait_for


@pytest.fixture(scope='module')
def stored(runs: Runs) -> str:
    """The address of the run `finished`, made in a store; not to be changed."""
    address = 'memory://finished/run'
    runs.train('llama', address)
    return address


def fetched(address: str, folder: Path) -> Path:
    """All that a store has of a run, on a disk; read without `lm`."""
    fsspec.filesystem(address.partition('://')[0]).get(address, str(folder), recursive=True)
    return folder


def steps_there(address: str, folder: Path) -> list[int]:
    return StoredRun(Store(address, 'workdir'), folder, shared=False).steps


def test_a_run_in_a_store_is_that_on_a_disk(
    runs: Runs, stored: str, finished: Path, tmp_path: Path
) -> None:
    assert not [*(runs.cache / 'workdirs').iterdir()]  # the copy is gone
    folder = fetched(stored, tmp_path / 'fetched')
    same_run(folder, finished)
    left_there = {p.relative_to(folder).as_posix() for p in folder.iterdir()}
    assert left_there == {p.name for p in finished.iterdir()}
    whole = (folder / 'checkpoints').glob('*/_CHECKPOINT_METADATA')
    assert sorted(path.parent.name for path in whole) == ['16', '24']
    # What was fetched is a workdir like any other.
    tokens = np.arange(12)[None] % 7
    there, here = lm.load(folder), lm.load(finished)
    np.testing.assert_array_equal(there.logits(tokens), here.logits(tokens))


class Killed(BaseException):
    """In place of a kill: nothing reaches the store from then on."""


@pytest.mark.parametrize('moment', ['behind 8', 'before 16'])
def test_a_kill_while_putting_leaves_the_checkpoint_before(
    moment: str, runs: Runs, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right behind the metadata of the first checkpoint, and right before those of the second."""
    when, step = moment.split()
    address, metadata = f'memory://killed/{step}', f'checkpoints/{step}/_CHECKPOINT_METADATA'
    put_file, dying = MemoryFileSystem.put_file, []

    def mortal(self: Any, lpath: str, rpath: str, *args: Any, **words: Any) -> None:
        if dying or (when == 'before' and rpath.endswith(metadata)):
            dying.append(rpath)
            raise Killed
        put_file(self, lpath, rpath, *args, **words)
        if rpath.endswith(metadata):
            dying.append(rpath)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, 'put_file', mortal)
        with pytest.raises(Killed):
            runs.train('llama', address)
    assert steps_there(address, tmp_path / 'copy') == [8]
    assert lm.load(address).config.train.steps == 24
    runs.train('llama', address)
    folder = fetched(address, tmp_path / 'fetched')
    same_run(folder, finished)
    for place in (folder, finished):  # nothing is left of what was cut short
        assert len([*place.glob('checkpoints/*/params/d/*')]) == 2


def test_a_longer_run_begins_without_the_summary_of_the_shorter(
    stored: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill right behind the begin: the store says that the run has not ended."""
    address, put_file = 'memory://longer/run', MemoryFileSystem.put_file
    folder = fetched(stored, tmp_path / 'before')
    for path in folder.rglob('*'):
        if path.is_file():
            put(f'{address}/{path.relative_to(folder).as_posix()}', path.read_bytes())

    def mortal(self: Any, lpath: str, rpath: str, *args: Any, **words: Any) -> None:
        if '/checkpoints/' in rpath:
            raise Killed
        put_file(self, lpath, rpath, *args, **words)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, 'put_file', mortal)
        with pytest.raises(Killed):
            runs.train('llama', address, train__steps=25)
    assert 'summary.json' not in Store(address, 'workdir').names()
    with fsspec.open(f'{address}/config.json') as file:
        assert json.load(file)['train']['steps'] == 25


def test_what_was_trained_beyond_the_last_put_is_trained_again(
    stored: str, runs: Runs, finished: Path, tmp_path: Path
) -> None:
    """A process that dies with its disk: only the store is left, at some checkpoint."""
    folder = fetched(stored, tmp_path / 'before')
    address = 'memory://older/run'
    for path in folder.rglob('*'):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != 'summary.json' and not name.startswith('checkpoints/24'):
            put(f'{address}/{name}', path.read_bytes())
    runs.train('llama', address)
    same_run(fetched(address, tmp_path / 'after'), finished)


def test_damage_in_a_store_is_set_aside(
    stored: str, runs: Runs, finished: Path, tmp_path: Path, capfd: Any
) -> None:
    folder = fetched(stored, tmp_path / 'before')
    [array] = (folder / 'checkpoints/24/params/d').iterdir()
    array.write_bytes(array.read_bytes()[:-9])
    (folder / 'summary.json').unlink()
    address = 'memory://damaged/run'
    for path in folder.rglob('*'):
        if path.is_file():
            put(f'{address}/{path.relative_to(folder).as_posix()}', path.read_bytes())
    runs.train('llama', address)
    assert 'checkpoint 24 is damaged' in capfd.readouterr().err
    after = fetched(address, tmp_path / 'after')
    same_run(after, finished)
    assert [p.name for p in (after / 'damaged').iterdir()] == ['24']


def test_a_finished_run_is_left_as_it_is(stored: str, runs: Runs, tmp_path: Path) -> None:
    before = Store(stored, 'workdir').names()
    summary = runs.train('llama', stored)
    assert Store(stored, 'workdir').names() == before
    assert summary['steps'] == 24


def test_runs_begin_from_those_in_a_store(stored: str, runs: Runs, tmp_path: Path) -> None:
    branch, fresh = tmp_path / 'branch', tmp_path / 'fresh'
    summary = runs.train('llama', branch, run_fork_from=f'{stored}@16')
    assert summary['params_sha256'] == lm_summary(stored)['params_sha256']
    runs.train('llama', fresh, checkpoint__init_from=stored, train__steps=1)
    with pytest.raises(UserError, match=r'no such checkpoint; there are 16, 24'):
        runs.train('llama', tmp_path / 'none', run_fork_from=f'{stored}@8')


def lm_summary(address: str) -> dict[str, Any]:
    with fsspec.open(f'{address}/summary.json') as file:
        summary: dict[str, Any] = json.load(file)
    return summary


def test_verbs_read_a_run_in_a_store(
    stored: str, finished: Path, runs: Runs, tmp_path: Path, capsys: Any
) -> None:
    def both(*words: str) -> None:
        told = []
        for place in (stored, str(finished)):
            assert main([word.replace('RUN', place) for word in words]) == 0
            told.append(capsys.readouterr().out)
        assert told[0] == told[1]

    text = tmp_path / 'text.txt'
    text.write_text(runs.text.read_text()[:200])
    both('generate', '--workdir=RUN', f'--prompt={text.read_text()[:8]}', '--max_new_tokens=2')
    both('evaluate', '--workdir=RUN', f'--text={text}')
    both('data', '--workdir=RUN', '--rows=1')
    both('report', 'RUN', f'--out={tmp_path}/report.html')
    assert main(['convert', f'--from={stored}', f'--to={tmp_path}/exported']) == 0
    assert (tmp_path / 'exported' / 'model.safetensors').exists()


def test_what_needs_a_disk_refuses_a_store(runs: Runs, stored: str, capsys: Any) -> None:
    def refusal(*words: str) -> str:
        assert main([*words]) == 2
        told = capsys.readouterr().err.strip()
        assert '\n' not in told
        return str(told)

    config = f'--config={CONFIG}:llama'
    assert '--workdir=s3://b/sweep: is in a store; give' in refusal(
        'sweep', '--experiment=chinchilla', '--workdir=s3://b/sweep'
    )
    assert 'data.cache_dir=gs://b/cache: is in a store' in refusal(
        'train', config, '--workdir=x', '--config.data.cache_dir=gs://b/cache'
    )
    assert 'data.tokenizer=s3://b/x.model: is in a store' in refusal(
        'train', config, '--workdir=x', '--config.data.tokenizer=s3://b/x.model',
        f'--config.data.cache_dir={runs.cache}', f'--config.data.source={runs.text}',
    )  # fmt: skip
    assert 'hf=s3://b/gpt2: is in a store' in refusal('generate', '--hf=s3://b/gpt2', '--prompt=')
    assert '--to=s3://b/x: is in a store' in refusal('convert', f'--from={stored}', '--to=s3://b/x')
    assert 'workdir=memory://b/none: holds no run' in refusal(
        'generate', '--workdir=memory://b/none', '--prompt='
    )
    assert 'workdir=s5://b/run: no such kind of store; did you mean s3://?' in refusal(
        'train', config, '--workdir=s5://b/run'
    )


def test_killed_in_a_process_of_its_own_a_run_in_s3_goes_on(
    s3: Any, runs: Runs, finished: Path, tmp_path: Path
) -> None:
    address = f's3://{BUCKET}/run'

    def objects() -> set[str]:
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix='run/').get('Contents', [])
        return {part['Key'] for part in found}

    process = runs.start('llama', address)
    wait_for(process, lambda: 'run/checkpoints/16/params/_METADATA' in objects())
    process.kill()
    process.wait()
    assert 'run/checkpoints/8/_CHECKPOINT_METADATA' in objects()
    assert 'run/summary.json' not in objects()
    runs.train('llama', address)
    same_run(fetched(address, tmp_path / 'fetched'), finished)
