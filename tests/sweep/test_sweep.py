"""A sweep's folder: keys, rows, what is left to do, and that no two sweeps share it."""

import dataclasses
import json
from pathlib import Path

import pytest

from lm.errors import UserError
from lm.resolution import override
from lm.sweep import Sweep
from lm.sweep.job import config_key, perform, read_job
from tests.sweep.grid import Setting, configs


def test_a_key_is_of_the_whole_resolved_config(study: Setting) -> None:
    first, second = configs(study).values()
    assert config_key(first) == config_key(configs(study)['rate 0.001']) != config_key(second)
    # Options that a config leaves open are those that it stands for.
    open_options = dataclasses.replace(first, model=dataclasses.replace(first.model, options=None))
    [job] = Sweep(Path('x'), {'a': open_options}).jobs
    assert job.folder.name == config_key(first)
    assert config_key(override(first, {'model.options.norm_eps': 1e-3})) != config_key(first)


def test_the_same_run_twice_is_refused(study: Setting) -> None:
    first = configs(study)['rate 0.001']
    with pytest.raises(UserError, match='the runs a and b are the same'):
        _ = Sweep(Path('x'), {'a': first, 'b': first}).jobs
    with pytest.raises(UserError, match='yields no configs'):
        _ = Sweep(Path('x'), {}).jobs


def test_rows_and_what_is_left(study: Setting, tmp_path: Path) -> None:
    runs = configs(study)
    bad = override(runs['rate 0.001'], {'data.source': study.source, 'train.flops': 1.0})
    sweep = Sweep(tmp_path, {**runs, 'too little': bad})
    jobs = sweep.pending()
    assert [job.name for job in jobs] == ['rate 0.001', 'rate 0.003', 'too little']
    sweep.begin(jobs)
    perform(jobs[0].folder)
    assert [job.name for job in sweep.pending()] == ['rate 0.003', 'too little']
    perform(jobs[2].folder)
    rows = sweep.gather()
    assert rows == [json.loads(line) for line in sweep.runs_file.read_text().splitlines()]
    summary = json.loads((jobs[0].folder / 'summary.json').read_text())
    first, failed = rows
    assert first['error'] is None and first['run'] == jobs[0].folder.name
    assert first['loss'] == summary['eval_loss'] and first['flops'] == summary['flops']
    # The columns that tell these runs apart, and no others.
    assert first['optim.peak_lr'] == 1e-3 and first['train.flops'] is None
    assert 'train.seed' not in first and 'budget' not in first
    [account] = summary['data'].values()
    assert first['tokens'] == account['tokens']['trained_on'] == 6 * 4 * 16
    assert first['unique_tokens'] == account['train']['tokens'] > first['tokens']
    assert failed['name'] == 'too little' and 'less than one step' in failed['error']
    assert failed['budget'] == 1.0 and 'loss' not in failed
    assert [job.name for job in sweep.pending()] == ['rate 0.003']
    again = sweep.pending(retry_failed=True)
    assert [job.name for job in again] == ['rate 0.003', 'too little']
    sweep.begin(again, retry_failed=True)
    assert [row['name'] for row in sweep.gather()] == ['rate 0.001']
    assert Sweep(tmp_path, runs).others() == 1


def test_rows_say_what_the_experiment_says_now(study: Setting, tmp_path: Path) -> None:
    first, second = configs(study).values()
    sweep = Sweep(tmp_path, {'a': first})
    sweep.begin(sweep.pending())
    perform(sweep.jobs[0].folder)
    [row] = sweep.gather()
    assert row['name'] == 'a' and 'optim.peak_lr' not in row
    [again] = Sweep(tmp_path, {'b': first, 'c': second}).gather()
    assert again == row | {'name': 'b', 'optim.peak_lr': 1e-3}


def test_what_ended_is_not_made_again(study: Setting, tmp_path: Path) -> None:
    [job] = (sweep := Sweep(tmp_path, {'a': configs(study)['rate 0.001']})).pending()
    sweep.begin([job])
    assert read_job(job.folder) == job
    first = perform(job.folder)
    (job.folder / 'summary.json').unlink()  # would be made anew
    assert perform(job.folder) == first
    assert not (job.folder / 'summary.json').exists()


def test_two_sweeps_do_not_share_a_folder(study: Setting, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, configs(study))
    with (
        sweep.held(),
        pytest.raises(UserError, match='another sweep is at work there'),
        sweep.held(),
    ):
        pass
    with sweep.held():
        pass
