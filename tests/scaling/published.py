"""Where the published data lie, beside the project and no part of it."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from lm.scaling.runs import Runs, read_runs

_REPOSITORY = Path(__file__).parent.parent.parent
SHARED = Path(os.environ.get('LM_SHARED', _REPOSITORY.parent / 'shared')) / 'scaling'


def published(name: str) -> Path:
    """The file, or a skipped test."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f'needs {name} in the folder shared/scaling beside the repository')
    return path


def column(path: Path, name: str) -> np.ndarray:
    """A column that `read_runs` passes over, as text."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith('#')]
    return np.array([row[name] for row in csv.DictReader(lines)])


def chinchilla(points: int) -> Runs:
    """All 245 points of Besiroglu et al. 2024, or the 240 that they kept."""
    path = published('chinchilla_epoch_recon.csv')
    runs = read_runs(path)
    kept = runs if points == len(runs) else runs.where(column(path, 'excluded') == '0')
    assert len(kept) == points
    return kept
