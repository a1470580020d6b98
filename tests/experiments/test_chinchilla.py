"""The iso-FLOP study: grid and rules, its analysis of a known surface, a small real sweep."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import chinchilla
from experiments._isoflop_study import analyze, by_the_rule, plot, predict, table
from experiments.chinchilla import FLOPS_PER_PARAM, Setting, configs, layers, learning_rate
from lm.errors import UserError
from lm.planning.budget import step_flops
from lm.planning.counts import count_parameters
from lm.planning.parameters import model_shape
from tests.scaling.surfaces import TRUTH, best_size

BUDGETS = (1e18, 3e18, 9e18, 2.7e19)


@pytest.mark.parametrize('objective', ['clm', 'mlm', 'span_corruption'])
def test_runs_of_a_budget_cost_the_same(objective: Any) -> None:
    study = Setting(source='x.txt', objective=objective)
    runs = configs(study)
    sizes: dict[float, set[int]] = {}
    for config in runs.values():
        params = count_parameters(model_shape(config.model)).total
        steps = config.train.flops // step_flops(config)
        tokens = steps * config.train.batch_size * config.train.seq_len
        cost = steps * step_flops(config)
        assert config.train.flops - step_flops(config) < cost <= config.train.flops
        if objective == 'clm':  # of the others a table of positions costs nothing
            assert 6 * params * tokens == pytest.approx(cost, rel=0.02)
        assert config.optim.warmup_steps == steps // 10
        sizes.setdefault(config.train.flops, set()).add(params)
    assert sorted(sizes) == list(study.budgets)
    for budget, found in sizes.items():
        middle = (budget / (FLOPS_PER_PARAM[objective] * study.tokens_per_param)) ** 0.5
        assert len(found) == study.sizes and min(found) < middle < max(found)
    # Other rates at the smallest and the largest budget only, of one size each.
    tried = {(c.train.flops, c.model.d_model) for n, c in runs.items() if '-lr' in n}
    assert [budget for budget, _ in sorted(tried)] == [study.budgets[0], study.budgets[-1]]


def test_the_rules() -> None:
    assert [layers(width) for width in (8, 64, 80, 256)] == [2, 2, 3, 8]
    assert learning_rate('clm', 75, 4) == 2e-3
    assert learning_rate('clm', 150, 4) == learning_rate('clm', 75, 16) == 1e-3
    rows = {
        name: config.train.batch_size
        for name, config in configs(Setting(source='x.txt', sizes=3, lr_factors=())).items()
    }
    assert rows['3e+11-d24'] == 16 and rows['4.8e+12-d56'] == 32


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'budgets': (1e12, 2e12)}, 'budgets=.*at least 3'),
        ({'budgets': (1e12, 2e12, -1.0)}, 'budgets='),
        ({'sizes': 2}, 'sizes=2'),
        ({'budgets': (1e6, 1e7, 1e8)}, 'budgets: 1e.06 FLOPs are 0 steps'),
    ],
)
def test_mistakes(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configs(Setting(source='x.txt', **changes))


def surface(budgets: tuple[float, ...] = BUDGETS) -> list[dict[str, Any]]:
    """Rows of a sweep over a known surface; embeddings are a known share of N."""
    rows = []
    for budget in budgets:
        best = float(best_size(TRUTH, np.array(budget)))
        for away in (0.4, 0.6, 1.0, 1.5, 2.5):
            params = best * away
            tokens = budget / (6 * params)
            loss = TRUTH.E + TRUTH.A / params**TRUTH.alpha + TRUTH.B / tokens**TRUTH.beta
            rows.append(
                {
                    'run': f'{budget:g}/{away}',
                    'name': f'{budget:g}-x{away}',
                    'budget': budget,
                    'params': params,
                    'params_non_embedding': params - 100 * params**0.7,
                    'tokens': tokens,
                    'unique_tokens': 1e12,
                    'loss': loss,
                }
            )
    for budget, wrong in ((budgets[0], 0.01), (budgets[-1], -0.01)):
        middle = next(r for r in rows if r['budget'] == budget and r['name'].endswith('x1.0'))
        for factor, more in (('0.5', wrong), ('2', 0.02)):
            name = f'{middle["name"]}-lr{factor}'
            rows.append({**middle, 'name': name, 'loss': middle['loss'] + more})
    return rows


def test_a_prediction_of_a_known_surface_comes_true(tmp_path: Path) -> None:
    rows, top = surface(), max(BUDGETS)
    told = predict(rows, top, tmp_path / 'prediction.json')
    assert told['from_budgets'] == sorted(BUDGETS)[:-1] and told['unavailable'] == {}
    best = float(best_size(TRUTH, np.array(top)))
    assert told['approaches']['parametric']['params'] == pytest.approx(best, rel=1e-6)
    # Rows of the top budget are no part of it, and what is written stays.
    other = [row | {'loss': 9.0} if row['budget'] == top else row for row in rows]
    assert predict(other, top, tmp_path / 'another.json') == told
    assert predict(rows, top, tmp_path / 'prediction.json') == told
    for changed in ((rows[1:], top), (rows, 2 * top)):
        with pytest.raises(UserError, match='prediction.json: foretells .*give another workdir'):
            predict(*changed, tmp_path / 'prediction.json')
    result = analyze(rows, told)
    assert result['found']['params'] == pytest.approx(best, rel=0.05)
    told['approaches']['parametric']['intervals'] = {'loss': [0.0, 9.0], 'params': [1.0, 2.0]}
    result = analyze(rows, told)
    assert result['hits']['parametric'] == {'loss': True, 'params': False}
    assert result['laws']['all']['exponentials']['a'] == pytest.approx(
        TRUTH.beta / (TRUTH.alpha + TRUTH.beta), rel=1e-4
    )
    # Embeddings are a falling share of N: without them it grows faster with compute.
    alone = result['laws']['without embeddings']['parabola']['a']
    assert alone > result['laws']['all']['parabola']['a'] + 0.01
    first, last = result['learning_rates']
    assert first['best'] == 1 and first['interior'] and last['best'] == 0.5
    assert not last['interior']
    words = table(result)
    assert 'AT THE EDGE' in words and 'HIT' in words and 'MISS' in words
    plot(result, str(tmp_path / 'study.png'))
    assert (tmp_path / 'study.png').stat().st_size > 10_000


def test_a_loss_that_is_not_foretold_is_told_so(tmp_path: Path) -> None:
    rows = surface()
    worse = {budget: 1 + 0.3 * i for i, budget in enumerate(BUDGETS)}
    rising = [row | {'loss': row['loss'] * worse[row['budget']]} for row in rows]
    told = predict(rising, max(BUDGETS), tmp_path / 'prediction.json')
    assert told['approaches']['isoflop']['loss'] is None
    result = analyze(rising, told)
    assert 'isoflop    loss   not foretold' in table(result)
    plot(result, str(tmp_path / 'study.png'))


def test_runs_at_other_rates_are_no_part_of_the_laws() -> None:
    assert len(by_the_rule(surface())) == len(surface()) - 4


@pytest.mark.slow  # nine runs, one after another: minutes
def test_a_small_real_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        f'--workdir={tmp_path / "sweep"}', '--source=stdlib', '--budgets=4e9,8e9,1.6e10',
        '--sizes=3', '--seq_len=32', '--vocab_size=512', '--lr_factors=', '--at_once=2',
        '--tokens_per_param=10',
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', ['chinchilla', *words, '--stop_before_top'])
    assert chinchilla.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told['from_budgets'] == [4e9, 8e9] and len(told['from_runs']) == 6
    monkeypatch.setattr(sys, 'argv', ['chinchilla', *words, f'--plot={tmp_path / "p.svg"}'])
    assert chinchilla.main() == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result['prediction'] == told and len(result['points']) == 9
    rows = [json.loads(x) for x in (tmp_path / 'sweep' / 'runs.jsonl').read_text().splitlines()]
    assert len(rows) == 9 and all(row['error'] is None for row in rows)
    for row in rows:
        assert row['flops'] <= row['budget'] < row['flops'] * 1.05
        assert 6 * row['params'] * row['tokens'] == pytest.approx(row['budget'], rel=0.06)
        assert 2 < row['loss'] < 6.3
    assert (tmp_path / 'sweep' / 'by_the_rule.jsonl').read_text().count('\n') == 9
    # More compute, a lower loss.
    best = [min(r['loss'] for r in rows if r['budget'] == b) for b in (4e9, 8e9, 1.6e10)]
    assert best[0] > best[1] > best[2]
