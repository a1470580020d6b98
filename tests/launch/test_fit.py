"""`lm fit`: its JSON, its lines, and what it says of a mistake."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.main import main
from lm.scaling.runs import Runs
from tests.scaling.published import chinchilla, published
from tests.scaling.surfaces import TRUTH, best_size, grid
from tests.scaling.test_forms import gadre


def write(path: Path, runs: Runs, unique_tokens: float | None = None) -> str:
    assert runs.budget is not None
    rows = [f'# made up\nparams,tokens,loss,budget{",unique_tokens" if unique_tokens else ""}']
    for row in zip(runs.params, runs.tokens, runs.losses, runs.budget, strict=True):
        rows.append(','.join(map(repr, map(float, (*row, *filter(None, [unique_tokens]))))))
    path.write_text('\n'.join(rows) + '\n')
    return f'--runs={path}'


def plain(path: Path, runs: Runs) -> str:
    rows = zip(runs.params, runs.tokens, runs.losses, runs.compute, strict=True)
    lines = [','.join(map(repr, map(float, row))) for row in rows]
    path.write_text('\n'.join(['params,tokens,loss,flops', *lines]))
    return f'--runs={path}'


def fitted(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(['fit', *words, '--json']) == 0
    captured = capsys.readouterr()
    assert captured.err == '' and captured.out.count('\n') == 1
    return json.loads(captured.out)


def test_all_approaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8))
    found = fitted(capsys, runs, '--flops=1e22,1e24', '--resamples=20')
    law = found['parametric']
    assert [law[name] for name in TRUTH._fields] == pytest.approx(TRUTH, rel=1e-6)
    assert law['converged'] and law['objective'] < 1e-20 and law['starts_at_best'] > 10
    assert set(law['intervals']) == {*TRUTH._fields, 'a'} and law['resamples_kept'] == 20
    assert {'a', 'b', 'optima', 'dropped', 'alternatives'} <= set(found['isoflop'])
    assert {'a', 'b'} <= set(found['envelope'])
    assert len(found['isoflop']['optima']) == 5 and found['isoflop']['dropped'] == []
    assert found['isoflop']['alternatives']['exponentials']['a'] == pytest.approx(law['a'])
    assert [(best['method'], best['flops']) for best in found['optimal']] == [
        (method, flops)
        for method in ('parametric', 'isoflop', 'envelope')
        for flops in (1e22, 1e24)
    ]
    first = found['optimal'][0]
    assert first['params'] == pytest.approx(float(best_size(TRUTH, np.array(1e22))))
    assert 6 * first['params'] * first['tokens'] == pytest.approx(1e22)
    low, high = first['intervals']['params']
    assert low <= first['params'] * (1 + 1e-6) and first['params'] <= high * (1 + 1e-6)
    assert [best['far'] for best in found['optimal'][:2]] == [False, True]
    assert law['profile']['intervals'].keys() == {'alpha', 'beta', 'a'}
    assert first['profile_intervals'].keys() == {'params', 'tokens'}
    assert found['hold_out']['parametric']['loss_error'] < 1e-6
    assert found['hold_out']['isoflop']['left_out'] == 9
    pairs = {
        (tuple(one['methods']), one['quantity'], one['flops']) for one in found['disagreement']
    }
    assert (('parametric', 'isoflop'), 'params', 1e24) in pairs


def test_one_approach_and_no_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8))
    found = fitted(capsys, runs, '--method=isoflop', '--resamples=50')
    assert 'parametric' not in found and 'envelope' not in found
    assert [best['flops'] for best in found['optimal']] == pytest.approx([1e22])
    found = fitted(capsys, runs, '--method=parametric', '--resamples=0')
    assert found['parametric']['intervals'] is None and 'intervals' not in found['optimal'][0]


def test_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8), unique_tokens=1e9)
    assert main(['fit', runs, '--resamples=10', '--flops=1e24']) == 0
    out = capsys.readouterr().out
    assert 'points saw their text more than 4 times' in out
    assert 'parametric  E 1.8172  A 477.8  B 2143  alpha 0.3473  beta 0.3672  a 0.51393' in out
    assert 'converged: sum of Huber' in out and 'exponentials  a 0.5139' in out
    assert out.count('FAR beyond the data') == 3


def test_what_the_runs_do_not_allow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid_runs = grid(TRUTH, 8)
    one = grid_runs.where(grid_runs.budget == 1e20)
    runs = write(tmp_path / 'one.csv', one)
    found = fitted(capsys, runs, '--resamples=0')
    assert 'all runs are of 1e+20 FLOPs' in found['unavailable']['isoflop']
    assert 'isoflop' not in found and {best['method'] for best in found['optimal']} >= {
        'parametric'
    }
    assert main(['fit', runs, '--method=isoflop']) == 2
    error = capsys.readouterr().err
    assert 'one.csv: budget: all runs are of 1e+20 FLOPs' in error and error.count('\n') == 1
    few = write(tmp_path / 'few.csv', one.where(np.arange(4)))
    assert main(['fit', few, '--method=parametric']) == 2
    assert '4 points for the 5 constants' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        ([], '--runs'),
        (['--runs=none.csv'], 'No such file'),
        (['{runs}', '--method=isoflops'], 'isoflop'),
        (['{runs}', '--level=90'], '--level=90'),
        (['{runs}', '--resamples=1'], '--resamples=1'),
        (['{runs}', '--seed=-1'], '--seed=-1'),
        (['{runs}', '--flops=-1e21', '--resamples=0'], 'flops=-1e+21'),
        (['{runs}', '--plot=a.gif'], '--plot=a.gif: must end in .png or .svg'),
        (['{runs}', '--plot=none/a.png'], '--plot=none/a.png: none is no folder'),
        (['{runs}', '--hold_out=1e30'], '--hold_out=1e+30: the runs are of 1e+18 to 1e+22 FLOPs'),
        (
            ['{runs}', '--method=isoflop', '--hold_out=2e18', '--resamples=0'],
            '--hold_out=2e+18: budget: all runs',
        ),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8))
    assert main(['fit', *(word.format(runs=runs) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('\n') == 1 and says in captured.err


HEADER = 'params,tokens,loss,budget'


@pytest.mark.parametrize(
    ('lines', 'words', 'says'),
    [
        (['params,token,loss', '1e8,2e9,3'], [], 'row 1: no column tokens'),
        ([HEADER, '1e8,2e9,3,1e18', '1e8,-2e9,3,1e18'], [], 'row 3, column tokens: -2e9 must be'),
        ([HEADER, '0,2e9,3,1e18'], [], 'row 2, column params: 0 must be positive'),
        ([HEADER, '1e8,2e9,nan,1e18'], [], 'row 2, column loss: nan must be positive'),
        ([HEADER, '1e8,2e9,3,'], [], 'row 2, column budget: no value'),
        ([HEADER, *['1e8,2e9,3,1e18'] * 2], [], 'row 3, column params: 100000000.0 is row 2 again'),
        (
            [f'run,{HEADER}', *['r7,1e8,2e9,3,1e18', 'r7,1e8,2e9,3.1,1e18']],
            [],
            'row 3, column run: r7 is row 2 again',
        ),
        (
            [HEADER, *[f'{n}e8,2e9,{5 - n},1e18' for n in (1, 2, 3)]],
            ['--method=parametric'],
            '3 points for the 5 constants',
        ),
        (
            [HEADER, *[f'{n}e8,2e9,{5 - n},1e18' for n in (1, 2, 3)]],
            ['--method=isoflop'],
            'budget: all runs are of 1e+18 FLOPs; give runs of at least two budgets',
        ),
        (
            [HEADER, *[f'{n}e8,{c}e9,{5 - n / 2},{c}e18' for n in (1, 2, 4) for c in (1, 3)]],
            ['--method=isoflop'],
            'budget: 0 of 2 have a minimum within their sizes: 1e+18 has',
        ),
        (
            [HEADER, *[f'1e8,{c}e9,{5 - c},{c}e18' for c in (1, 2, 3)]],
            ['--method=envelope'],
            'params: all points are of N = 1e+08',
        ),
    ],
)
def test_bad_runs_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    words: list[str],
    says: str,
) -> None:
    path = tmp_path / 'runs.csv'
    path.write_text('\n'.join(lines))
    assert main(['fit', f'--runs={path}', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('\n') == 1 and len(captured.err) < 400
    assert says in captured.err and str(path) in captured.err


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
def test_1e26_flops_given_as_integers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    runs = grid(TRUTH, 8)
    assert runs.budget is not None
    rows = [
        {'params': int(n * 1e2), 'tokens': int(d * 1e2), 'loss': loss, 'budget': 10**4 * int(c),
         'flops': 6 * int(n * 1e2) * int(d * 1e2)}
        for n, d, loss, c in zip(
            *(x.tolist() for x in (runs.params, runs.tokens, runs.losses, runs.budget)), strict=True
        )
    ]  # fmt: skip
    assert max(row['flops'] for row in rows) > 2**63
    path = tmp_path / f'runs.{kind}'
    if kind == 'csv':
        body = [','.join(map(str, row.values())) for row in rows]
        path.write_text('\n'.join([','.join(rows[0]), *body]))
    else:
        path.write_text('\n'.join(map(json.dumps, rows)))
    found = fitted(capsys, f'--runs={path}', f'--flops={10**26}', '--resamples=4')
    assert found['parametric']['alpha'] == pytest.approx(TRUTH.alpha, rel=1e-6)
    assert found['isoflop']['optima'][-1]['flops'] == 1e26
    assert not found['optimal'][0]['far'] and found['optimal'][0]['flops'] == 1e26


def test_marin_is_said_to_disagree_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    path = published('isoflop_marin_comma.csv')
    assert main(['fit', f'--runs={path}', '--resamples=150']) == 0
    out = capsys.readouterr().out
    assert 'DISAGREE beyond their errors: a 0.3445 parametric, 0.4049 isoflop; difference' in out
    assert 'without the bias of the parabola they agree: a 0.3445 parametric, 0.3272' in out


def test_wider_errors_are_not_called_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    path = published('isoflop_chinchilla_epoch.csv')
    assert main(['fit', f'--runs={path}', '--resamples=100']) == 0
    out = capsys.readouterr().out
    assert 'DISAGREE beyond their errors: a 0.5616 parametric, 0.4920 isoflop' in out
    assert 'they agree: a' not in out and 'no bias of the parabola, though' in out


def test_what_was_held_out_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = plain(tmp_path / 'runs.csv', chinchilla(240))
    words = [runs, '--method=parametric', '--hold_out=1e21', '--resamples=0']
    held = fitted(capsys, *words)['hold_out']['parametric']
    assert held['loss_error'] == pytest.approx(0.0105, abs=5e-5)
    assert (held['fitted'], held['left_out'], len(held['loss_errors'])) == (217, 23, 23)
    assert main(['fit', *words]) == 0
    said = 'held out: fitted to 217 points of C <= 1e+21, loss off by 1.05% on average of the runs'
    assert said in capsys.readouterr().out


def test_failed_runs_of_a_sweep_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = grid(TRUTH, 8)
    rows: list[dict[str, Any]] = [
        {'params': n, 'tokens': d, 'loss': loss, 'budget': 6 * n * d, 'error': ''}
        for n, d, loss in zip(
            runs.params.tolist(), runs.tokens.tolist(), runs.losses.tolist(), strict=True
        )
    ]
    rows.insert(3, {'params': 1e8, 'tokens': 1e9, 'loss': None, 'error': 'FloatingPointError: nan'})
    path = tmp_path / 'runs.jsonl'
    path.write_text('\n'.join(map(json.dumps, rows)))
    found = fitted(capsys, f'--runs={path}', '--method=parametric', '--resamples=0')
    assert found['warnings'] == ['1 runs failed (column error) and are left out']
    assert found['parametric']['points'] == 45


def test_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8))
    picture = tmp_path / 'fit.svg'
    assert main(['fit', runs, '--resamples=0', f'--plot={picture}']) == 0
    assert 'parametric' in capsys.readouterr().out
    text = picture.read_text()
    for words in ('Iso-FLOP curves', 'efficient frontier', 'Envelope', 'Residuals', 'nats a token'):
        assert words in text


def test_another_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = plain(tmp_path / 'runs.csv', gadre())
    # The two large models are held out, and so no part of what the constants are told of here.
    found = fitted(capsys, runs, '--form=gadre', '--hold_out=1e20', '--flops=1e24')
    assert found['hold_out']['loss_errors'] == pytest.approx([0.0150, -0.0430], abs=5e-5)
    assert found['form'] == 'gadre' and found['gadre']['points'] == 7
    assert found['optimal'][0]['far'] and found['optimal'][0]['params'] > 1e9
    assert main(['fit', runs, '--form=kaplan_c', '--flops=1e22']) == 0
    out = capsys.readouterr().out
    assert 'kaplan_c    (Cc/C)^alpha_C: Cc ' in out and 'C 1e+22: loss 2.' in out
    assert 'held out: fitted to' in out


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (['--form=tide'], '--form'),
        (['--form=tied', '--method=all'], '--method: goes with --form=chinchilla'),
        (['--form=tied', '--plot=a.png'], '--plot: goes with'),
        (['--form=kaplan_n', '--flops=1e21'], 'flops=1e+21: (Nc/N)^alpha_N says nothing of a'),
        (['--form=tied', '--hold_out=2e18'], '--hold_out=2e+18: runs: 3 points for the 4'),
    ],
)
def test_a_mistake_about_a_form_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    runs = grid(TRUTH, 8)
    path = write(tmp_path / 'runs.csv', runs.where(np.array([0, 4, 8, *range(9, 45)])))
    assert main(['fit', path, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('\n') == 1 and says in captured.err
