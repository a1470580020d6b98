"""What a second run in a workdir may change, and what it refuses in one line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lm import UserError
from lm.fields import flatten
from lm.resolution import to_json
from lm.training.workdir import Workdir, is_fixed
from tests.training.runs import Runs, read_rows, saved_steps, snapshot

FIXED: dict[str, Any] = {
    'model.name': 'gpt2',
    'model.num_layers': 3,
    'model.dropout': 0.2,
    'model.vocab_size': 390,
    'model.options.rope_theta': 5000.0,
    'objective.name': 'mlm',
    'data.source': 'stdlib',
    'data.tokenizer': 'bpe',
    'data.overfit_batches': 1,
    'optim.name': 'sgd',
    'optim.peak_lr': 1e-4,
    'optim.clip_norm': None,
    'optim.options.b1': 0.5,
    'precision.policy': 'bf16_mixed',
    'train.batch_size': 16,
    'train.seq_len': 16,
    'train.seed': 1,
}


@pytest.mark.parametrize('path', FIXED)
def test_a_fixed_field_that_differs_is_named_with_both_values(
    path: str, finished: Path, runs: Runs
) -> None:
    untouched = snapshot(finished)
    overrides = {path.replace('.', '__'): FIXED[path]}
    if path == 'objective.name':  # another family's objective needs that family
        overrides['model__name'] = 'bert'
    there = flatten(Workdir(finished).read_config()).get(path)
    with pytest.raises(UserError) as caught:
        runs.train('llama', finished, **overrides)
    message = str(caught.value)
    assert f'{path}={FIXED[path]!r} (there: {there!r})' in message
    assert '\n' not in message
    assert 'another workdir' in message
    assert snapshot(finished) == untouched


def test_every_field_is_either_fixed_or_may_change(finished: Path, runs: Runs) -> None:
    may_change = {path for path in flatten(runs.config('llama')) if not is_fixed(path)}
    sections = {path.split('.')[0] for path in may_change}
    assert sections == {'data', 'train', 'eval', 'checkpoint', 'mesh'}
    outside = {p for p in may_change if p.split('.')[0] in ('data', 'train')}
    assert outside == {
        'data.cache_dir', 'train.steps', 'train.tokens', 'train.flops', 'train.tokens_per_param',
        'train.hours', 'train.microbatches', 'train.log_every_steps', 'train.noise_scale',
        'train.loggers',
    }  # fmt: skip


def test_a_smaller_budget_is_refused(finished: Path, runs: Runs) -> None:
    with pytest.raises(UserError, match=r'train.steps=10: .*planned for 24.*another workdir'):
        runs.train('llama', finished, train__steps=10)


def test_allowed_changes_are_printed_and_kept(
    unfinished: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {
        'train__steps': 28,
        'train__log_every_steps': 2,
        'train__microbatches': 2,
        'eval__every_steps': 26,
        'checkpoint__keep_latest': 3,
        'mesh__devices': 2,
        'data__cache_dir': str(tmp_path / 'cache'),
    }
    runs.train('llama', unfinished, **changed)
    said = capsys.readouterr().err
    [row] = [r for r in read_rows(unfinished / 'history.jsonl') if r['step'] == 24]
    assert {path.replace('.', '__') for path in row['changes']} == {*changed}
    for path, (old, new) in row['changes'].items():
        assert f'changed    {path}: {old!r} -> {new!r}' in said
        assert changed[path.replace('.', '__')] == new
    assert saved_steps(unfinished) == [16, 24, 28]
    steps = [r['step'] for r in read_rows(unfinished / 'metrics.jsonl')]
    assert steps == [*range(1, 25), 26, 28]
    config = json.loads((unfinished / 'config.json').read_text())
    assert config['mesh']['devices'] == 2


def test_a_finished_run_says_so_and_leaves_its_files(
    copy: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(copy)
    summary = runs.train('llama', copy)
    assert 'is finished: nothing to do' in capsys.readouterr().err
    assert snapshot(copy) == before
    assert summary == json.loads((copy / 'summary.json').read_text())


def test_killed_at_the_very_end_the_end_is_done_once(
    unfinished: Path, finished: Path, runs: Runs
) -> None:
    # Everything was written but the summary: the last evaluation comes again, its row does not.
    runs.train('llama', unfinished)
    evaluations = [(r['step'], r['whole']) for r in read_rows(unfinished / 'eval.jsonl')]
    assert evaluations == [(10, False), (20, False), (24, True)]


def test_what_is_left_open_comes_from_the_earlier_run(finished: Path, runs: Runs) -> None:
    config = Workdir(finished).read_config()
    assert config is not None
    asked = runs.config('llama')
    assert (asked.model.vocab_size, asked.precision.policy) == (None, 'auto')
    assert config.model.vocab_size is not None
    assert config.precision.policy == 'fp32'
    # The same run, named in full, is no other run either.
    full = {'model__vocab_size': config.model.vocab_size, 'precision__policy': 'fp32'}
    runs.train('llama', finished, **full)


def test_a_tokenizer_is_not_trained_anew_for_the_number_that_came_out(
    unfinished: Path, runs: Runs
) -> None:
    config = Workdir(unfinished).read_config()
    assert config is not None
    before = (unfinished / 'tokenizer.model').read_bytes()
    prepared = sorted((runs.cache / 'prepared').iterdir())
    runs.train('llama', unfinished, model__vocab_size=config.model.vocab_size)
    assert (unfinished / 'tokenizer.model').read_bytes() == before
    assert sorted((runs.cache / 'prepared').iterdir()) == prepared


def test_a_text_that_changed_is_refused(runs: Runs, tmp_path: Path) -> None:
    text = tmp_path / 'text.txt'
    text.write_text(runs.text.read_text())
    workdir = tmp_path / 'run'
    runs.train('llama', workdir, data__source=str(text), train__steps=2)
    text.write_text(runs.text.read_text().replace('a', 'b'))
    with pytest.raises(UserError, match=r'data.source=.*its text or tokens are not those'):
        runs.train('llama', workdir, data__source=str(text), train__steps=4)
    assert saved_steps(workdir) == [2]


def test_workdirs_that_cannot_be_used(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / 'file'
    file.write_text('x')
    with pytest.raises(UserError, match='workdir=.*file: is a file; give a folder'):
        runs.train('llama', file)
    with pytest.raises(UserError, match='workdir=.*cannot be made'):
        runs.train('llama', file / 'below')
    assert file.read_text() == 'x'


@pytest.mark.skipif(os.geteuid() == 0, reason='nothing is forbidden to root')
def test_a_workdir_that_cannot_be_written(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    folder.mkdir(mode=0o500)
    with pytest.raises(UserError, match='workdir=.*cannot be written to'):
        runs.train('llama', folder)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('{"model": ', 'is not JSON'),
        ('', 'is not JSON'),
        ('[1, 2]', 'is not the config of a run'),
        ('{"model": {"d_modle": 3}}', 'did you mean model.d_model'),
        ('{"train": {"steps": "many"}}', 'train.steps'),
        ('\udcff', 'is not JSON'),
    ],
)
def test_a_config_that_cannot_be_read(content: str, words: str, copy: Path, runs: Runs) -> None:
    (copy / 'config.json').write_bytes(content.encode(errors='surrogateescape'))
    before = snapshot(copy)
    with pytest.raises(UserError, match='config.json: ') as caught:
        runs.train('llama', copy)
    assert words in str(caught.value)
    assert snapshot(copy) == before


def test_metrics_that_are_no_json_are_told_by_line(unfinished: Path, runs: Runs) -> None:
    path = unfinished / 'metrics.jsonl'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines[:2], 'x', *lines[2:]]) + '\n')
    with pytest.raises(UserError, match='metrics.jsonl: line 3 is not JSON'):
        runs.train('llama', unfinished)


def test_a_last_line_cut_short_is_left_out(unfinished: Path, finished: Path, runs: Runs) -> None:
    path = unfinished / 'metrics.jsonl'
    with path.open('a') as file:
        file.write('{"step": 25, "lo')
    runs.train('llama', unfinished)
    assert len(read_rows(path)) == 24


def test_checkpoints_without_a_config_are_not_overwritten(copy: Path, runs: Runs) -> None:
    (copy / 'config.json').unlink()
    (copy / 'summary.json').unlink()
    before = snapshot(copy)
    with pytest.raises(UserError, match=r'holds checkpoints \(16, 24\) but no config.json'):
        runs.train('llama', copy)
    assert snapshot(copy) == before


def test_the_recorded_config_is_whole(finished: Path) -> None:
    config = Workdir(finished).read_config()
    assert config is not None
    assert json.loads((finished / 'config.json').read_text()) == json.loads(
        json.dumps(to_json(config))
    )
