"""One text and one cache for all sweeps of the session."""

from pathlib import Path
from typing import Any

import pytest

from tests.sweep.grid import Setting
from tests.training.runs import write_text


@pytest.fixture(scope='session')
def study(tmp_path_factory: Any) -> Setting:
    folder: Path = tmp_path_factory.mktemp('text')
    return Setting(str(write_text(folder / 'words.txt')), str(folder / 'cache'))
