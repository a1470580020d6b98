"""One text and one cache for all runs of the session, so that text is prepared once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite('tests.training.runs')

from tests.training.runs import Runs, write_text  # noqa: E402


@pytest.fixture(scope='session')
def runs(tmp_path_factory: Any) -> Runs:
    folder: Path = tmp_path_factory.mktemp('text')
    return Runs(write_text(folder / 'words.txt'), folder / 'cache')


@pytest.fixture(scope='session')
def finished(runs: Runs, tmp_path_factory: Any) -> Path:
    """A run of 24 steps that is done, with checkpoints 16 and 24; not to be changed."""
    workdir: Path = tmp_path_factory.mktemp('finished') / 'run'
    runs.train('llama', workdir)
    return workdir


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / 'copy'))


@pytest.fixture
def unfinished(copy: Path) -> Path:
    """A copy of the finished run, as a kill before its summary would have left it."""
    (copy / 'summary.json').unlink()
    return copy
