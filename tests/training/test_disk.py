"""A disk that refuses: one line, what was saved before is still good, and the run goes on later."""

import sys
from pathlib import Path

import pytest

from lm import UserError
from lm.training.workdir import append_jsonl, write_json
from tests.training.runs import Runs, one_line, read_rows, same_run, saved_steps

# Files may grow no more once step 8 is saved: where the limit is too small for a checkpoint, it is
# reached in Orbax's threads, as on a full disk.
LIMITED = """
import resource, sys
from lm.training import checkpoint
from launch.main import main

save, limit = checkpoint.Checkpoints.save, {limit}

def limited(self, state, record):
    if int(state.step) > 8:
        self.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    save(self, state, record)

checkpoint.Checkpoints.save = limited
sys.exit(main())
"""


@pytest.mark.parametrize('limit', [20_000, 100])
def test_a_checkpoint_that_cannot_be_written(
    limit: int, finished: Path, runs: Runs, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    script = LIMITED.format(limit=limit)
    process = runs.start(
        'llama', workdir, prefix=(sys.executable, '-c', script), checkpoint__keep_latest=1
    )
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    error = one_line(said)
    assert 'File too large' in error
    if limit > 10_000:  # with 100 bytes metrics.jsonl may be the first to feel it
        assert 'a checkpoint could not be written' in error
        assert 'goes on from step 8' in error
    assert saved_steps(workdir) == [8]
    runs.train('llama', workdir, checkpoint__keep_latest=1)
    same_run(workdir, finished)
    assert saved_steps(workdir) == [24]


def test_rows_and_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'metrics.jsonl: cannot be written \(Is a directory\)'):
        (tmp_path / 'metrics.jsonl').mkdir()
        append_jsonl(tmp_path / 'metrics.jsonl', {'step': 1})
    (tmp_path / 'summary.json').mkdir()
    with pytest.raises(UserError, match=r'summary.json: cannot be written'):
        write_json(tmp_path / 'summary.json', {})
    assert not (tmp_path / 'summary.json.tmp').exists()


def test_metrics_that_cannot_be_appended_end_the_run_in_one_line(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm.training import reporters

    append = reporters.append_jsonl

    def full(path: Path, row: dict[str, object]) -> None:
        if row['step'] == 12:
            raise UserError(f'{path}: cannot be written (No space left on device)')
        append(path, row)

    monkeypatch.setattr(reporters, 'append_jsonl', full)
    workdir = tmp_path / 'run'
    with pytest.raises(UserError, match='metrics.jsonl: cannot be written'):
        runs.train('llama', workdir)
    assert saved_steps(workdir) == [8]
    assert len(read_rows(workdir / 'metrics.jsonl')) == 11
