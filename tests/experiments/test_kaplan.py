"""Kaplan's three lines: their runs, and the laws of made-up ones."""

import json
import math
from typing import Any

import numpy as np
import pytest

from experiments.kaplan import Line, Setting, configs, lines, plot
from lm.errors import UserError


def test_runs_of_the_two_lines() -> None:
    study = Setting(source='x.txt')
    runs = configs(study)
    sized = {name: c for name, c in runs.items() if name.startswith('N-')}
    limited = {name: c for name, c in runs.items() if name.startswith('D-')}
    assert [c.model.d_model for c in sized.values()] == sorted(study.widths)
    for config in sized.values():
        tokens = config.train.steps * config.train.batch_size * config.train.seq_len
        assert study.tokens - study.tokens_a_step < tokens <= study.tokens
        assert config.data.overfit_batches == 0
    for tokens, config in zip(sorted(study.data), limited.values(), strict=True):
        assert config.model.d_model == max(study.widths)
        assert config.data.overfit_batches * study.tokens_a_step == tokens
        assert config.train.steps == study.epochs * config.data.overfit_batches
        assert config.eval.every_steps <= config.train.steps // study.evaluations


def made_up() -> tuple[list[dict[str, Any]], dict[str, list[dict[str, float]]]]:
    """L = (1e9 / N)^0.08 of sizes, (1e11 / D)^0.1 of data at the best of three evaluations."""
    rows, curves = [], {}
    for params in (1e3, 1e4, 1e5):
        name, loss = f'N-{params:g}', (1e9 / params) ** 0.08
        rows.append({'name': name, 'params_non_embedding': params, 'loss': loss})
        curves[name] = [{'tokens': t, 'loss': loss + 3e3 / t} for t in (1e4, 1e5, 1e6)]
    for tokens in (1e5, 1e6, 1e7):
        name, best = f'D-{tokens:g}', (1e11 / tokens) ** 0.1
        rows.append({'name': name, 'unique_tokens': tokens, 'loss': best + 1})
        curves[name] = [{'tokens': 1.0, 'loss': best + x} for x in (0.5, 0.0, 1.0)]
    return rows, curves


def test_laws_of_made_up_runs(tmp_path: Any) -> None:
    found = lines(*made_up())
    told = {name: line.told() for name, line in found.items()}
    assert json.loads(json.dumps(told)) == told
    assert told['N']['alpha'] == pytest.approx(0.08) and told['D']['alpha'] == pytest.approx(0.1)
    assert told['N']['constant'] == pytest.approx(1e9, rel=1e-6)
    assert told['D']['constant'] == pytest.approx(1e11, rel=1e-6)
    # The envelope is of points that are there, and falls.
    points = {(6 * 1e3 * 1e4, (1e9 / 1e3) ** 0.08 + 0.3)}
    assert points <= {tuple(point) for point in told['C']['points']}
    assert (np.diff(found['C'].losses) < 0).all() and told['C']['alpha'] > 0
    assert found['N'].words('N') == 'L(N) = (1e+09 / N)^0.0800'
    plot(found, str(tmp_path / 'lines.png'))
    assert (tmp_path / 'lines.png').stat().st_size > 5_000


def test_a_line_that_does_not_fall_says_so() -> None:
    line = Line(np.array([1e3, 1e4, 1e5]), np.array([3.0, 3.1, 3.3]))
    assert line.told()['constant'] is None and math.isfinite(line.told()['alpha'])
    assert line.words('D').startswith('L(D) does not fall with D: exponent -0.0')


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'widths': (16, 32)}, 'widths: 2 different values'),
        ({'data': (2048, 4096, 5000)}, 'data=5000: give multiples of a step, 2048 tokens'),
    ],
)
def test_mistakes(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Setting(source='x.txt', **changes)
