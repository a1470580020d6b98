"""Checkpoints hold the very state they were asked to, whatever the loop does meanwhile."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import lm
from lm import UserError
from lm.config import CheckpointConfig
from lm.training.checkpoint import Checkpoints
from lm.training.digest import digests
from lm.training.saved import Damaged, SavedStates
from lm.training.step import State
from tests.training.numerics import SGD, batches, compiled, initial, program
from tests.training.runs import Runs, read_rows, saved_steps


@pytest.mark.parametrize('devices', [1, 8])
def test_a_saved_state_is_that_of_its_step_while_the_loop_donates_it(
    devices: int, tmp_path: Path
) -> None:
    made = program('gpt2', devices, **SGD)
    step, data = compiled(made), batches(made, 4)
    state = jax.device_put(initial('gpt2', 'sgd'), made.layout.replicated)
    folder = Checkpoints(tmp_path / 'checkpoints', CheckpointConfig(keep_latest=10))
    wanted: dict[int, Any] = {}
    for i in range(40):
        state, _ = step(state, made.layout.place(data[i % 4]))
        if made.layout.blocks_each_step:
            jax.block_until_ready(state)
        if (i + 1) % 4 == 0:
            wanted[i + 1] = digests(state)
            folder.save(state, {'i': i})
    folder.close()
    assert len({str(w) for w in wanted.values()}) == 10
    assert folder.steps == [*wanted]
    for number, digest in wanted.items():
        restored, record = folder.read(number, made.abstract_state)
        assert digests(restored) == digest
        assert record == {'i': number - 1}


def test_another_mesh_reads_the_same_bits(tmp_path: Path) -> None:
    eight, one = program('gpt2', 8, **SGD), program('gpt2', 1, **SGD)
    state = jax.device_put(initial('gpt2', 'sgd'), eight.layout.replicated)
    folder = Checkpoints(tmp_path / 'checkpoints', CheckpointConfig())
    folder.save(state, {})
    folder.close()
    restored, _ = folder.read(0, one.abstract_state)
    for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.sharding.mesh.size == 1


def tiny_state(step: int, shape: tuple[int, ...] = (3, 4)) -> State:
    return State({'a': jax.numpy.full(shape, step, 'float32')}, (), jax.numpy.int32(step))


def abstract(state: State) -> State:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def test_which_are_kept(tmp_path: Path) -> None:
    config = CheckpointConfig(keep_latest=2, keep_every_steps=30)
    folder = Checkpoints(tmp_path / 'checkpoints', config, always=[50])
    for step in range(10, 100, 10):
        folder.save(tiny_state(step), {})
        folder.save(tiny_state(step), {})  # once more does nothing
    folder.close()
    assert folder.steps == [30, 50, 60, 80, 90]


def test_shapes_and_names_that_differ_are_told(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path / 'checkpoints', CheckpointConfig())
    folder.save(tiny_state(1), {})
    folder.close()
    wrong = abstract(tiny_state(1, (3, 5)))
    with pytest.raises(UserError, match=r'params/a is float32\[3, 4\] there and float32\[3, 5\]'):
        folder.read(1, wrong)
    with pytest.raises(UserError, match='has no params/b, which this run has'):
        folder.read_params(1, {'b': wrong.params['a']})
    with pytest.raises(UserError, match='has params/a, which this run has not'):
        folder.read_params(1, {})


def test_another_format_is_refused_and_a_forged_record_is_damage(tmp_path: Path) -> None:
    from lm.training import checkpoint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, 'FORMAT_VERSION', 7)
        folder = Checkpoints(tmp_path / 'checkpoints', CheckpointConfig())
        folder.save(tiny_state(1), {'count': 12})
        folder.close()
    like = abstract(tiny_state(1))
    with pytest.raises(UserError, match='format version 7, this lm reads 1'):
        folder.read(1, like)
    [path] = (tmp_path / 'checkpoints' / '1').glob('_CHECKPOINT_METADATA')
    path.write_text(path.read_text().replace('"count": 12', '"count": 13'))
    with pytest.raises(Damaged, match='metadata are not what was saved'):
        folder.read(1, like)


def test_reading_changes_nothing_in_a_folder_that_is_being_written(finished: Path) -> None:
    half = finished / 'checkpoints' / '99.orbax-checkpoint-tmp'
    half.mkdir()
    try:
        assert SavedStates(finished / 'checkpoints').steps == [16, 24]
        lm.load(finished)
        assert half.is_dir(), 'another process is writing it'
    finally:
        half.rmdir()


def test_a_fork_begins_with_the_state_of_its_step(
    finished: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fork = f'{finished}@16'
    branch, source = tmp_path / 'branch', read_rows(finished / 'metrics.jsonl')
    summary = runs.train('llama', branch, run_fork_from=fork)
    rows = read_rows(branch / 'metrics.jsonl')
    assert [row['step'] for row in rows] == list(range(17, 25))
    assert [row['loss'] for row in rows] == [row['loss'] for row in source[16:]]
    there = json.loads((finished / 'summary.json').read_text())
    assert summary['params_sha256'] == there['params_sha256']
    assert saved_steps(branch) == [16, 24]
    [history] = [r for r in read_rows(branch / 'history.jsonl') if 'fork_from' in r['changes']]
    assert (history['step'], history['changes']['fork_from']) == (16, [None, fork])
    capsys.readouterr()
    runs.train('llama', branch, run_fork_from=fork)
    assert 'finished' in capsys.readouterr().err
    runs.train('llama', branch, run_fork_from=fork, train__steps=26)
    assert 'going on   from step 24' in capsys.readouterr().err
    with pytest.raises(UserError, match='holds a run that did not branch off there'):
        runs.train('llama', branch, run_fork_from=f'{finished}@24', train__steps=26)


def test_a_fork_that_cannot_be(finished: Path, runs: Runs, tmp_path: Path) -> None:
    for fork, words in {
        f'{finished}@17': r'@17: no such checkpoint; there are 16, 24',
        f'{finished}@24': r'@24: leaves no step to take; make train.steps=24 larger',
        f'{finished}@x': 'must be WORKDIR@STEP',
        f'{tmp_path}@16': 'there is no run in',
    }.items():
        with pytest.raises(UserError, match=words):
            runs.train('llama', tmp_path / 'branch', run_fork_from=fork)
    with pytest.raises(UserError, match=r'checkpoint 16 of .*: params/.* there and .* run'):
        runs.train('llama', tmp_path / 'wide', run_fork_from=f'{finished}@16', model__d_ff=64)
    bpe = {'data__tokenizer': 'bpe', 'model__vocab_size': 400}
    with pytest.raises(UserError, match='another tokenizer; set data.tokenizer='):
        runs.train('llama', tmp_path / 'other', run_fork_from=f'{finished}@16', **bpe)


def test_a_fork_killed_before_it_began_branches_off_again(
    finished: Path, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm.training.workdir import Workdir

    def killed(self: Workdir, config: Any) -> None:
        raise KeyboardInterrupt

    branch, fork = tmp_path / 'branch', f'{finished}@16'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Workdir, 'write_config', killed)
        runs.train('llama', branch, run_fork_from=fork)
    summary = runs.train('llama', branch, run_fork_from=fork)
    there = json.loads((finished / 'summary.json').read_text())
    assert summary['params_sha256'] == there['params_sha256']


def test_a_run_starts_from_the_parameters_of_another(
    finished: Path, runs: Runs, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    runs.train('llama', workdir, checkpoint__init_from=str(finished), train__steps=2)
    first = read_rows(workdir / 'metrics.jsonl')[0]
    assert first['step'] == 1
    assert first['learning_rate'] < 3e-3 / 5, 'the warm-up begins anew'
    assert first['loss'] < read_rows(finished / 'metrics.jsonl')[20]['loss']
    with pytest.raises(
        UserError,
        match=r'^model.d_ff=64: the model in .* has 48 .*; set --config.model.d_ff=48$',
    ):
        runs.train('llama', tmp_path / 'wide', checkpoint__init_from=str(finished), model__d_ff=64)
    with pytest.raises(UserError, match='checkpoint.init_from=.*nowhere: does not exist'):
        runs.train('llama', tmp_path / 'none', checkpoint__init_from=str(tmp_path / 'nowhere'))


def test_loading_what_is_not_there(finished: Path, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='does not exist'):
        lm.load(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='holds no run'):
        lm.load(tmp_path)
    for path in (copy / 'checkpoints').iterdir():
        os.rename(path, tmp_path / path.name)
    with pytest.raises(UserError, match='has no checkpoint yet'):
        lm.load(copy)


def test_loading_passes_over_a_damaged_one_and_says_so(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (copy / 'checkpoints' / '24' / 'params').rglob('d/*'):
        path.write_bytes(path.read_bytes()[:10])
    lm.load(copy)
    assert 'checkpoint 24 is damaged' in capsys.readouterr().err
