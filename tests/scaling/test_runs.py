"""Runs read from files: what is taken, and what is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from lm.errors import UserError
from lm.scaling.runs import Runs, read_runs

HEADER = 'params,tokens,loss'


def write(folder: Path, text: str, name: str = 'runs.csv') -> Path:
    path = folder / name
    path.write_text(text, encoding='utf-8')
    return path


def test_comments_and_unknown_columns_are_passed_over(tmp_path: Path) -> None:
    text = '# source\nnote,loss,tokens,params\nx,2.5,3e9,1e8\n  # midway\n\ny,2.25,6e9,2e8\n'
    runs = read_runs(write(tmp_path, text))
    assert runs.params.tolist() == [1e8, 2e8] and runs.losses.tolist() == [2.5, 2.25]
    assert runs.run is runs.flops is runs.budget is runs.unique_tokens is None
    np.testing.assert_allclose(runs.compute, [6 * 1e8 * 3e9, 6 * 2e8 * 6e9], rtol=1e-15)


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
def test_1e26_flops_given_as_integers(tmp_path: Path, kind: str) -> None:
    row = {'params': 4 * 10**12, 'tokens': 10**14, 'loss': 2, 'flops': 10**26, 'budget': 10**26,
           'unique_tokens': 10**13, 'run': 7}  # fmt: skip
    body = f'{",".join(row)}\n{",".join(map(str, row.values()))}\n'
    text = body if kind == 'csv' else f'# a comment\n{json.dumps(row)}\n'
    runs = read_runs(write(tmp_path, text, f'runs.{kind}'))
    assert runs.flops is not None and runs.budget is not None and runs.unique_tokens is not None
    assert runs.flops[0] == runs.budget[0] == 1e26 and runs.unique_tokens[0] == 1e13
    assert runs.run == ('7',) and runs.params.dtype == np.float64
    whole = Runs(runs.params, runs.tokens, runs.losses)
    assert whole.compute[0] == pytest.approx(2.4e27, rel=1e-15)  # an int64 ends at 9.2e18


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'no rows'),
        ('# only\n', 'no rows'),
        (f'{HEADER}\n', 'no rows'),
        ('params,token,loss\n1,2,3\n', 'row 1: no column tokens'),
        (f'#\n{HEADER}\n1,2,3\n1,-2,3\n', 'row 4, column tokens: -2'),
        (f'{HEADER}\n0,2,3\n', 'row 2, column params: 0'),
        (f'{HEADER}\n1,2,nan\n', 'row 2, column loss: nan'),
        (f'{HEADER}\n1,inf,3\n', 'row 2, column tokens: inf'),
        (f'{HEADER}\n1,1e999,3\n', 'row 2, column tokens: 1e999'),
        (f'{HEADER}\n1,,3\n', 'row 2, column tokens: no value'),
        (f'{HEADER}\n1,two,3\n', "row 2, column tokens: 'two' is no number"),
        (f'{HEADER}\n1,2\n', 'row 2: 2 values for 3 columns'),
        (f'{HEADER},loss\n1,2,3,4\n', 'row 1: two columns loss'),
        (f'{HEADER},flops\n1,2,3,-4\n', 'row 2, column flops: -4'),
        (f'{HEADER}\n1,2,3\n2,2,3\n#\n1,2.0,3\n', 'row 5, column params: 1.0 is row 2 again'),
        (f'run,{HEADER}\nx,1,2,3\nx,1,2,4\n', 'row 3, column run: x is row 2 again'),
    ],
)
def test_a_bad_csv_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as raised:
        read_runs(path)
    assert words in str(raised.value) and str(path) in str(raised.value)
    assert '\n' not in str(raised.value) and ';' in str(raised.value)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{"params": 1, "tokens": 2}', 'no column loss'),
        ('{"params": 1, "tokens": 2, "loss": NaN}', 'row 1, column loss: nan'),
        ('{"params": 1, "tokens": 2, "loss": true}', 'row 1, column loss: True is no number'),
        ('{"params": 1, "tokens": 2, "loss": [3]}', 'row 1, column loss: [3] is no number'),
        (f'{{"params": 1{"0" * 400}, "tokens": 2, "loss": 3}}', 'row 1, column params: 1000'),
        ('{"params": 1, "tokens": 2, "loss": 3}\n[1]', 'row 2: [1]: give one JSON object'),
        ('{"params": 1, "tokens": 2, "loss": 3}\n{', 'row 2: {: give one JSON object'),
        ('{"params": 1, "tokens": 2, "loss": 3}\n{"params": 1}', 'row 2, column tokens: no value'),
    ],
)
def test_a_bad_jsonl_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match='runs.jsonl') as raised:
        read_runs(write(tmp_path, text, 'runs.jsonl'))
    assert words in str(raised.value)


def test_failed_runs_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [
        {'run': 'a', 'params': 1, 'tokens': 2, 'loss': None, 'error': 'MemoryError'},
        {'run': 'b', 'params': 1, 'tokens': 2, 'loss': 3.5, 'error': ''},
        {'run': 'c', 'error': 'killed'},
        {'run': 'd', 'params': 2, 'tokens': 2, 'loss': 3.25, 'error': None},
        {'run': 'e', 'params': 4, 'tokens': 2, 'loss': 3.0},
    ]
    text = '\n'.join(map(json.dumps, rows))
    runs = read_runs(write(tmp_path, text, 'runs.jsonl'))
    assert runs.run == ('b', 'd', 'e') and runs.failed == 2
    assert runs.where(np.array([True, False, True])).failed == 2
    text = f'{HEADER},error\n1,2,,out of memory\n1,2,3,\n'
    assert read_runs(write(tmp_path, text)).failed == 1
    with pytest.raises(UserError, match='1 rows, all of runs that failed'):
        read_runs(write(tmp_path, f'{HEADER},error\n1,2,,out of memory\n'))


def test_what_is_no_file_of_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='ends in .csv or .jsonl'):
        read_runs(tmp_path / 'runs.txt')
    with pytest.raises(UserError, match='No such file'):
        read_runs(tmp_path / 'runs.csv')
    (tmp_path / 'runs.csv').write_bytes(b'\xff\xfe')
    with pytest.raises(UserError, match='not UTF-8'):
        read_runs(tmp_path / 'runs.csv')


def test_seeds_and_learning_curves_are_no_duplicates(tmp_path: Path) -> None:
    seeds = read_runs(write(tmp_path, f'{HEADER}\n1,2,3\n1,2,3.5\n'))
    assert len(seeds) == 2 and seeds.owners().tolist() == [0, 1]
    curve = read_runs(write(tmp_path, f'run,{HEADER}\nb,1,2,3\na,1,2,3\nb,1,4,2\n'))
    assert curve.owners().tolist() == [1, 0, 1]


def test_runs_of_arrays_are_checked_too() -> None:
    one = np.ones(2)
    with pytest.raises(UserError, match=r'tokens\[1\]=-1.0: must be positive'):
        Runs(one, np.array([1.0, -1.0]), one)
    with pytest.raises(UserError, match='run: 1 values for 2 params'):
        Runs(one, one, one, run=('a',))
    with pytest.raises(UserError, match='no rows'):
        Runs(np.ones(0), np.ones(0), np.ones(0))


def test_points_chosen_by_mask_or_drawn_twice() -> None:
    runs = Runs(np.array([1.0, 2.0]), np.ones(2), np.ones(2), run=('a', 'b'))
    assert runs.where(np.array([False, True])).run == ('b',)
    drawn = runs.where(np.array([1, 1, 0]))
    assert drawn.params.tolist() == [2, 2, 1] and drawn.flops is None
