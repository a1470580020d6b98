"""Real text beside the repository, where there is any."""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get('LM_SHARED', _REPOSITORY.parent / 'shared'))


def corpus(path: str) -> Path:
    """A file of the shared corpora; skips the test where it is absent."""
    found = SHARED / 'corpora' / path
    if not found.exists():
        pytest.skip(f'no {found}: set LM_SHARED to the folder that holds corpora/')
    return found


def words(count: int, seed: int = 0) -> str:
    """Text with some structure, a pure function of its arguments."""
    import random

    rng = random.Random(seed)
    known = ['the', 'a', 'cat', 'dog', 'reads', 'writes', 'letter', 'green', 'seven', 'under']
    return ''.join(
        rng.choice(known) + rng.choice(['  ', ' ', ' ', ', ', '.\n']) for _ in range(count)
    )
