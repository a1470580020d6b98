"""The same runs as tasks of submitit: by its local executor, which needs no Slurm."""

from pathlib import Path
from typing import Any

import pytest

from lm.errors import UserError
from lm.resolution import override
from lm.sweep import Sweep
from lm.sweep.slurm import Performance, run_on_slurm
from tests.sweep.grid import Setting, configs


def test_an_array_makes_the_runs(study: Setting, tmp_path: Path) -> None:
    runs = configs(study)
    bad = override(runs['rate 0.001'], {'train.flops': 1.0})
    sweep = Sweep(tmp_path / 'sweep', {'a': runs['rate 0.003'], 'bad': bad})
    jobs = sweep.pending()
    sweep.begin(jobs)
    heard: dict[str, Any] = {}
    run_on_slurm(
        jobs, tmp_path / 'slurm', 2, {'timeout_min': 5},
        lambda job, row: heard.__setitem__(job.name, row), cluster='local',
    )  # fmt: skip
    assert heard['a']['error'] is None and heard['a']['steps'] == 6
    assert 'less than one step' in heard['bad']['error']
    assert [row['name'] for row in sweep.gather()] == ['a', 'bad'] and sweep.pending() == []


def test_without_slurm_or_with_a_wrong_parameter_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match='launcher=slurm: .*minutes'):
        run_on_slurm([], tmp_path, 1, {'minutes': 5}, lambda *_: None, cluster='local')
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='launcher=slurm: .*srun'):
        run_on_slurm([], tmp_path, 1, {}, lambda *_: None)


def test_a_task_that_is_preempted_is_queued_again() -> None:
    again = Performance().checkpoint('folder')
    assert isinstance(again.function, Performance) and again.args == ('folder',)
