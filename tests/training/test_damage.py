"""Damage to a checkpoint is found, told in one line, and the one before is used."""

import random
from pathlib import Path

import pytest

from lm import UserError
from lm.data.tokenizer import load_tokenizer
from lm.training.digest import digests
from lm.training.program import build_program
from lm.training.saved import Damaged, SavedStates
from lm.training.step import State
from lm.training.workdir import Workdir
from tests.training.runs import Runs, same_run, saved_steps, snapshot


def abstract_state(workdir: Path) -> State:
    config = Workdir(workdir).read_config()
    assert config is not None
    return build_program(
        config, load_tokenizer(workdir / 'tokenizer.model').vocabulary
    ).abstract_state


def data_files(checkpoint: Path) -> list[Path]:
    """The files that hold arrays' bytes, largest first."""
    files = [p for p in checkpoint.rglob('d/*') if p.is_file()]
    return sorted(files, key=lambda p: p.stat().st_size, reverse=True)


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_any_flipped_bit_is_damage_or_harmless(unfinished: Path) -> None:
    like = abstract_state(unfinished)
    saved = SavedStates(unfinished / 'checkpoints')
    step = saved.steps[-1]
    folder = unfinished / 'checkpoints' / str(step)
    good, record = saved.read(step, like)
    draw = random.Random(0)
    files = data_files(folder)
    others = [p for p in folder.rglob('*') if p.is_file() and p not in files and p.stat().st_size]
    tries = [(path, True) for path in files for _ in range(4)] + [(path, False) for path in others]
    found = 0
    for path, is_data in tries:
        before = path.read_bytes()
        place, bit = draw.randrange(len(before)), draw.randrange(8)
        flip(path, place, bit)
        try:
            state, again = saved.read(step, like)
            # Only what nothing is read from (a time, a padding byte) may go unnoticed.
            assert digests(state) == digests(good), (path, place, bit)
            assert again == record, (path, place, bit)
        except Damaged:
            found += is_data
        path.write_bytes(before)
    assert found >= 0.5 * 4 * len(files), 'most of these bytes hold arrays'
    saved.read(step, like)


@pytest.mark.parametrize('damage', ['bit', 'truncated', 'missing'])
def test_the_one_before_is_used(
    damage: str,
    unfinished: Path,
    finished: Path,
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = data_files(unfinished / 'checkpoints' / '24')[0]
    size = path.stat().st_size
    if damage == 'bit':
        flip(path, size // 2, 3)
    elif damage == 'truncated':
        path.write_bytes(path.read_bytes()[: size // 2])
    else:
        path.unlink()
    untouched = snapshot(unfinished)
    with pytest.raises(UserError, match='--strict: checkpoint 24 is damaged'):
        runs.train('llama', unfinished, run_strict=True)
    assert snapshot(unfinished) == untouched
    capsys.readouterr()
    runs.train('llama', unfinished)
    lines = [line for line in capsys.readouterr().err.splitlines() if 'damaged' in line]
    assert len(lines) == 1
    assert lines[0].startswith('lm: checkpoint 24 is damaged (')
    assert lines[0].endswith('set aside; going on from the one before, step 16')
    same_run(unfinished, finished)
    assert saved_steps(unfinished) == [16, 24]
    assert (unfinished / 'damaged' / '24').is_dir()


def test_all_damaged_is_an_error_and_nothing_is_deleted(unfinished: Path, runs: Runs) -> None:
    for step in (16, 24):
        path = data_files(unfinished / 'checkpoints' / str(step))[0]
        flip(path, path.stat().st_size // 2, 0)
    untouched = snapshot(unfinished)
    with pytest.raises(UserError, match=r'all checkpoints are damaged \(step 24: .*'):
        runs.train('llama', unfinished)
    assert snapshot(unfinished) == untouched
