"""`lm budget`: its JSON, its lines, and what it says of a mistake."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.main import main
from lm.planning.devices import PF_DAY
from lm.scaling.runs import Runs
from tests.scaling.published import published
from tests.scaling.surfaces import TRUTH, best_size, grid

CHINCHILLA = ('--params=70e9', '--tokens=1.4e12')
ROOT = Path(__file__).parent.parent.parent


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(['budget', *words, '--json']) == 0
    captured = capsys.readouterr()
    assert captured.err == '' and captured.out.count('\n') == 1

    def refuse(name: str) -> None:
        raise AssertionError(f'{name} is no JSON')

    return json.loads(captured.out, parse_constant=refuse)


def write(path: Path, runs: Runs) -> str:
    assert runs.budget is not None
    rows = ['params,tokens,loss,budget']
    for row in zip(runs.params, runs.tokens, runs.losses, runs.budget, strict=True):
        rows.append(','.join(map(repr, map(float, row))))
    path.write_text('\n'.join(rows) + '\n')
    return f'--runs={path}'


def test_compute_of_parameters_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, *CHINCHILLA)
    assert found['flops'] == pytest.approx(5.88e23) and found['flops_rule'].startswith('6ND')
    assert found['pf_days'] == pytest.approx(5.88e23 / 8.64e19)
    assert (found['device'], found['mfu'], found['devices']) == ('a100', 0.4, 1)
    assert found['device_days'] == pytest.approx(5.88e23 / (312e12 * 0.4 * 86_400))
    assert found['device_days'] == found['device_days_by_kind']['a100'] == found['days']
    assert found['pf_day_in_device_days']['v100']['at_peak'] == pytest.approx(8)
    assert found['pf_day_in_device_days']['a100']['at_peak'] == pytest.approx(1000 / 312)
    # Chinchilla's own choice is so near to the best that it costs nothing.
    assert found['choice']['extra_compute'] < 0.01
    integers = told(capsys, '--params=70000000000', '--tokens=1400000000000')
    assert integers == found


def test_table_d1(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in published('gpt3_tableD1_a.csv').open() if not line.startswith('#')]
    for row in csv.DictReader(lines):
        family = 'encdec' if row['model'].startswith('T5') else 'decoder'
        found = told(
            capsys, f'--params={row["params_million"]}e6', f'--tokens={row["tokens_billion"]}e9',
            f'--family={family}',
        )  # fmt: skip
        assert found['flops'] == pytest.approx(float(row['flops']), rel=0.0035), row
        assert found['pf_days'] == pytest.approx(float(row['pf_days']), rel=0.0025), row


def test_days_of_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, *CHINCHILLA, '--device=TPU v5p', '--devices=4096', '--mfu=0.5')
    assert found['device'] == 'v5p' and found['device_peak'] == 459e12
    assert found['device_days'] == pytest.approx(5.88e23 / (459e12 * 0.5 * 86_400))
    assert found['days'] == pytest.approx(found['device_days'] / 4096)


def test_a_config_is_counted_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, '--config=gpt2_124m', '--tokens=1e10')
    assert found['params'] == 124_439_808 and found['tokens'] == pytest.approx(1e10)
    # GPT-2 by hand: 85e6 in layers' matrices, 50,257 x 768 of logits, 12 layers of scores.
    matrices, logits = 12 * 12 * 768**2, 50_257 * 768
    exact = 6 * (matrices + logits) + 12 * 12 * 1024 * 768
    assert found['flops'] == pytest.approx(1e10 * exact) == found['rules']['exact']['flops']
    assert found['rules']['6ND']['flops'] == pytest.approx(6e10 * 124_439_808)
    assert found['rules']['6N_matmul']['flops'] == pytest.approx(6e10 * (matrices + logits))
    kaplan = 6 * matrices + 6 * 12 * 1024 * 768
    assert found['rules']['kaplan2020']['flops'] == pytest.approx(1e10 * kaplan)
    assert found['rules']['appendix_f']['rule'].endswith('left out as in its table A4')
    assert all(rule['rule'] for rule in found['rules'].values())
    assert found['shape']['vocab_size'] == 50_257
    own = told(capsys, '--config=gpt2_124m', '--config.train.steps=10')
    batch = own['tokens'] / 10
    assert batch == int(batch) and own['flops'] == pytest.approx(batch * 10 * exact)


def test_an_encoder_decoder_config(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, '--config=t5_base', '--tokens=34e9')
    assert found['family'] == 'encdec' and set(found['rules']) == {'exact', '3ND', '6N_matmul'}
    assert 'optimal' not in found


def test_what_a_compute_is_best_spent_on(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, '--flops=5.76e23')
    laws = {best['method']: best for best in found['optimal']}
    assert laws['hoffmann2022_approach2']['params'] == pytest.approx(63e9, rel=0.01)
    for name in ('hoffmann2022_approach1', 'hoffmann2022_approach2', 'besiroglu2024'):
        best = laws[name]
        assert 6 * best['params'] * best['tokens'] == pytest.approx(5.76e23)
        for size in ('params', 'tokens'):
            low, high = best['intervals'][size]
            assert low < best[size] < high and best['level'] == 0.8
        assert best['far'] and best['source'] and best['interval_source']
    assert laws['hoffmann2022_approach3']['intervals'] is None
    assert found['rule_of_20']['tokens'] == pytest.approx(20 * found['rule_of_20']['params'])
    assert found['shape']['params'] == pytest.approx(laws['besiroglu2024']['params'], rel=0.02)
    assert [price['factor'] for price in found['off_optimal']] == [0.25, 0.5, 2.0, 4.0]
    assert found['inference_optimal'] is None and found['data_limited'] is None


def test_the_same_compute_in_other_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, '--pf_days=10') == told(capsys, f'--flops={10 * PF_DAY!r}')
    found = told(capsys, '--device=h100', '--devices=8', '--hours=24', '--mfu=0.5')
    assert found['flops'] == pytest.approx(989e12 * 0.5 * 8 * 86_400)
    assert found['days'] == pytest.approx(1) and found['device_days'] == pytest.approx(8)


def test_inference_and_scarce_text(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, '--flops=1e22', '--inference_tokens=1e12', '--unique_tokens=1e10')
    best = next(best for best in found['optimal'] if best['method'] == 'besiroglu2024')
    assert found['inference_optimal']['params'] < best['params']
    assert found['inference_optimal']['loss'] == pytest.approx(best['loss'])
    assert found['data_limited']['loss'] > best['loss'] and found['data_limited']['epochs'] > 4


def test_runs_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8, noise=1e-4))
    found = told(capsys, '--flops=1e22', runs, '--resamples=20')
    own = {best['method']: best for best in found['optimal']}
    for method in ('parametric', 'isoflop', 'envelope'):
        assert own[method]['params'] == pytest.approx(float(best_size(TRUTH, np.array(1e22))), 0.1)
        assert own[method]['level'] == 0.9 and not own[method]['far']
    assert found['law']['name'] == 'parametric'
    assert found['law']['beta'] == pytest.approx(TRUTH.beta, rel=0.01)
    assert told(capsys, '--flops=1e26', runs, '--resamples=0')['optimal'][0]['far']


def test_runs_that_allow_no_law_of_the_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = grid(TRUTH, 8)
    few = write(tmp_path / 'few.csv', made.where(made.budget == 1e20))
    found = told(capsys, '--flops=1e22', few, '--resamples=0')
    assert 'isoflop' in found['unavailable']
    assert main(['budget', '--flops=1e22', few, '--resamples=0']) == 0
    assert 'isoflop: none, budget: all runs are of' in capsys.readouterr().out


def test_approaches_that_disagree(capsys: pytest.CaptureFixture[str]) -> None:
    runs = f'--runs={published("isoflop_marin_comma.csv")}'
    found = told(capsys, '--flops=1e21', runs, '--resamples=60')
    assert any(one['beyond_errors'] for one in found['disagreement'])
    assert main(['budget', '--flops=1e21', runs, '--resamples=60']) == 0
    assert 'DISAGREE beyond their errors on a: parametric' in capsys.readouterr().out


def test_a_fit_that_did_not_converge_is_no_law(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('lm.scaling.huber.MOST_STEPS', 1)
    runs = write(tmp_path / 'runs.csv', grid(TRUTH, 8, noise=1e-3))
    found = told(capsys, '--flops=1e22', runs, '--resamples=0')
    assert 'did not converge' in found['unavailable']['parametric']
    assert found['law']['name'] == 'besiroglu2024'


def test_known_models(capsys: pytest.CaptureFixture[str]) -> None:
    models = {model['name']: model for model in told(capsys, '--known')['known']}
    assert set(models) >= {'Chinchilla', 'LLaMA-65B', 'GPT-3', 'OPT-175B', 'BLOOM'}
    best = {best['method']: best for best in models['GPT-3']['optimal']}
    # Hoffmann et al. 2022, section 3.4: GPT-3's compute is better spent on a smaller model.
    assert best['hoffmann2022_approach1']['params'] < 60e9
    assert main(['budget', '--known']) == 0
    assert 'Chinchilla        70B     1.4T  5.88e+23     20     1.4T' in capsys.readouterr().out


def test_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['budget', *CHINCHILLA, '--inference_tokens=1e13', '--unique_tokens=1e11']) == 0
    out = capsys.readouterr().out
    for words in (
        '5.88e+23 FLOPs (6ND: 6 FLOPs per parameter and token',
        '6805.56 PF-days = 54531.7 a100-days at 40% MFU of 312 TFLOP/s (bfloat16, dense)',
        'one PF-day: 8 v100-days at peak, 20 at 40% MFU',
        'kaplan2020', 'appendix_f_whole', 'of a alone', 'FAR: more than ten times', 'this, N* x',
        'With use counted', 'With text repeated',
    ):  # fmt: skip
        assert words in out
    assert max(map(len, out.splitlines())) <= 120


def test_huge_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    # 1e26 as an integer is beyond 64 bits.
    found = told(capsys, f'--flops={10**26}')
    assert found['flops'] == 1e26 and found['pf_days'] == pytest.approx(1e26 / 8.64e19)
    found = told(capsys, '--params=1000000000000', f'--tokens={10**16}')
    assert found['flops'] == 6e28 > 2**63


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        ([], '--params: missing'),
        (['--params=70e9'], '--params=7e+10: needs --tokens too'),
        (['--tokens=1e12'], '--tokens=1e+12: of which model?'),
        (['--params=70e9', '--tokens=1e12', '--flops=1e21'], '--params: give it or --flops'),
        (['--flops=1e21', '--pf_days=3'], '--flops: give it or --pf_days'),
        (['--params=1e9', '--tokens=1e9', '--config=gpt2_124m'], '--params: give it or --config'),
        (['--params=-1', '--tokens=1e12'], '--params=-1.0: must be from 1 to 1e+30, such as 70e9'),
        (['--params=0', '--tokens=1e12'], '--params=0.0: must be from 1'),
        (['--params=nan', '--tokens=1e12'], '--params=nan'),
        (['--params=1e9', '--tokens=inf'], '--tokens=inf'),
        (['--params=big', '--tokens=1e12'], '--params=big'),
        (['--params=1e200', '--tokens=1e12'], '--params=1e+200: must be from 1'),
        (['--flops=1e21', '--tokens=1e9'], '--tokens=1000000000.0: means nothing with --flops'),
        (['--flops=0'], '--flops=0.0: must be from 1 to 1e+60, such as 1e21'),
        (['--pf_days=1e300'], '--pf_days=1e+300: must be from'),
        (['--flops=1e21', '--device=h1000'], '--device=h1000: not in the table; did you mean h100'),
        (['--flops=1e21', '--mfu=0'], '--mfu=0.0: must be from 1e-06 to 1, such as 0.4'),
        (['--flops=1e21', '--device=h100', '--mfu=40'], '--mfu=40.0: must be from'),
        (['--hours=24'], '--hours=24.0: needs --device too'),
        (['--hours=24', '--device=h100', '--devices=0'], '--devices=0: must be from 1'),
        (['--flops=1e21', '--devices=8'], '--devices=8: needs --device too'),
        (['--flops=1e21', '--family=encdec'], '--family=encdec: means nothing with --flops'),
        (['--params=1e9', '--tokens=1e9', '--family=both'], '--family=both'),
        (
            ['--params=1e9', '--tokens=1e9', '--family=encdec', '--unique_tokens=1e8'],
            '--unique_tokens=100000000.0: read for decoders alone, and this is encdec',
        ),
        (
            ['--config=bert_base', '--tokens=1e9', '--inference_tokens=1e8'],
            '--inference_tokens=100000000.0: read for decoders alone, and this is encoder',
        ),
        (['--config=gpt2_124m', '--config.train.hours=1'], 'hours'),
        (['--flops=1e21', '--unique_tokens=-1'], '--unique_tokens=-1.0: must be from 1'),
        (['--flops=1e21', '--inference_tokens=0'], '--inference_tokens=0.0: must be from 1'),
        (['--flops=1e21', '--level=0.5'], '--level=0.5: needs --runs too'),
        (['--flops=1e21', '--runs=none.csv'], 'none.csv: No such file'),
        (['--known', '--runs=none.csv'], '--runs=none.csv: means nothing with --known'),
        (['--config=gpt3'], 'gpt3'),
        (['--flopz=1e21'], 'did you mean --flops?'),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(['budget', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('\n') == 1 and says in captured.err


@pytest.mark.parametrize('flops', [1e5, 1e12, 1e30, 1e60])
def test_no_budget_breaks_it(capsys: pytest.CaptureFixture[str], flops: float) -> None:
    found = told(capsys, f'--flops={flops!r}', '--inference_tokens=1e5', '--unique_tokens=1e10')
    assert all(math.isfinite(best['params']) for best in found['optimal'])


def test_it_starts_without_jax() -> None:
    code = (
        'import sys; from launch.main import main; main(["budget", "--flops=1e21", "--json"])\n'
        'print([m for m in ("jax", "flax", "tensorflow", "matplotlib") if m in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == '[]'
