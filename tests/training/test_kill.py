"""kill -9 at any moment, and the same command again: the same run as one that was left alone."""

import random
from pathlib import Path

import pytest

from tests.training.runs import (
    FAMILIES,
    Runs,
    last_step,
    same_run,
    wait_for,
)


@pytest.mark.parametrize('family', FAMILIES)
def test_killed_at_three_moments_the_run_ends_bit_equal(
    family: str, runs: Runs, tmp_path: Path
) -> None:
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    runs.train(family, straight)
    draw = random.Random(f'kills of {family}')
    saving = killed / 'checkpoints' / '16.orbax-checkpoint-tmp'
    early, late = draw.randint(9, 14), draw.randint(17, 22)
    moments = [
        lambda: last_step(killed) >= early,
        lambda: saving.exists(),  # in the middle of writing the second checkpoint
        lambda: last_step(killed) >= late,
    ]
    for moment in moments:
        process = runs.start(family, killed)
        wait_for(process, moment)
        process.kill()
        process.wait()
        assert not (killed / 'summary.json').exists()
    runs.train(family, killed)
    same_run(straight, killed)
    metrics = (killed / 'metrics.jsonl').read_text().splitlines()
    assert len(metrics) == 24
