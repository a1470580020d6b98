"""The precision study: its statistics are right, its controls can fail, its bytes are planned."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lm
from experiments import precision
from experiments._paired import Comparison, Gap, gap_of, gap_words
from experiments._precision_probes import BINS, magnitudes, measured_bytes, planned_bytes
from experiments._precision_report import bytes_words, controls_words
from experiments.precision import (
    FAMILIES,
    Outcome,
    Setting,
    analyze,
    arms,
    compared,
    configs,
    trained,
)
from lm.config import Config
from lm.errors import UserError
from lm.precision.policy import POLICIES
from lm.resolution import from_json, override
from lm.training.loop import NonFinite
from lm.vocabulary import placeholder

STUDY = Setting('text.txt')


def test_gap_of_a_worked_case() -> None:
    # Student's quantiles of two degrees of freedom are (2 p - 1) sqrt(2 / (1 - (2 p - 1)^2)).
    def quantile(p: float) -> float:
        return (2 * p - 1) * math.sqrt(2 / (1 - (2 * p - 1) ** 2))

    gap = gap_of([0.1, 0.2, 0.6])
    assert gap is not None
    error = math.sqrt(((0.2**2) + (0.1**2) + (0.3**2)) / 2) / math.sqrt(3)
    assert gap.mean == pytest.approx(0.3)
    assert gap.reach == pytest.approx(quantile(0.975) * error)
    assert gap.detectable == pytest.approx((quantile(0.975) + quantile(0.8)) * error)
    assert (gap.low, gap.high) == pytest.approx((0.3 - gap.reach, 0.3 + gap.reach))
    assert gap_of([0.1]) is None and gap_of([]) is None


def test_intervals_hold_the_truth_and_a_detectable_gap_is_detected() -> None:
    rng = np.random.default_rng(0)
    pairs, studies = 12, 4000
    # The truth is the detectable gap for the true deviation, 1.
    known = gap_of([sign * math.sqrt((pairs - 1) / pairs) for sign in (-1, 1) * (pairs // 2)])
    assert known is not None and known.mean == pytest.approx(0)
    draws = known.detectable + rng.standard_normal((studies, pairs))
    gaps = [gap_of(one.tolist()) for one in draws]
    held = np.mean([gap.low <= known.detectable <= gap.high for gap in gaps if gap is not None])
    seen = np.mean([gap.low > 0 for gap in gaps if gap is not None])
    assert held == pytest.approx(0.95, abs=0.015)
    assert seen == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ('comparison', 'verdict', 'worse', 'alike'),
    [
        (Comparison(3, 0, (0.1, 0.1, 0.1)), 'worse by 0.1 [0.1, 0.1]', True, False),
        (Comparison(2, 0, (-0.2, -0.2)), 'better by 0.2 [0.2, 0.2]', False, False),
        (
            Comparison(2, 0, (-0.1, 0.1)),
            'no difference seen; one of 1.4 would have been',
            False,
            True,
        ),
        (
            Comparison(2, 0, (-0.1, 0.2)),
            'no difference seen; one of 2.1 would have been',
            False,
            True,
        ),
        (Comparison(2, 0, (0.0, 0.0), same_bits=True), 'the same bits', False, True),
        (Comparison(3, 3, ()), 'diverged in 3 of 3', True, False),
        (
            Comparison(3, 1, (0.2, 0.2)),
            'diverged in 1 of 3; of the others worse by 0.2 [0.2, 0.2]',
            True,
            False,
        ),
        (Comparison(3, 0, (0.2,)), '1 of 3 pairs ended well: no interval', False, False),
    ],
)
def test_verdicts(comparison: Comparison, verdict: str, worse: bool, alike: bool) -> None:
    assert comparison.verdict == verdict
    assert (comparison.worse, comparison.alike) == (worse, alike)


def test_a_better_gap_tells_its_interval_from_small_to_large() -> None:
    assert gap_words(Gap(-0.3, 0.1, 0.5)) == 'better by 0.3 [0.2, 0.4]'


def test_magnitudes_of_known_numbers() -> None:
    values = np.array([0, 1, -1, 2.0**-24, -(2.0**-25), 2.0**-41, 2.0**-120], np.float32)
    found = magnitudes(values)
    assert found.nonzero == 6
    assert (found.below, found.below_scaled) == (3 / 6, 2 / 6)
    where = {int(BINS[i]): n for i, n in enumerate(found.counts) if n}
    assert where == {0: 2, -24: 1, -25: 1, -41: 1, int(BINS[0]): 1}
    assert math.isnan(magnitudes(np.zeros(3, np.float32)).below)


def test_all_arms_of_a_family_differ_in_what_they_name() -> None:
    named = arms(STUDY.policies)
    assert {arm.changes.get('precision.policy', 'fp32') for arm in named.values()} == {*POLICIES}
    assert [name for name, arm in named.items() if arm.must == 'alike'] == [
        'A/A: fp32, 2 microbatches'
    ]
    assert {arm.reference for arm in named.values() if arm.must == 'worse'} == {
        'fp32 at 1e-5',
        'fp32, large batch',
    }
    for model in FAMILIES:
        runs = configs(STUDY, model)
        for name, arm in named.items():
            if arm.reference is None:
                assert runs[name].precision.policy == 'fp32'
                continue
            reference = runs[arm.reference]
            own = {k: v for k, v in arm.changes.items() if k.split('.')[0] != 'optim'}
            assert runs[name] == override(reference, own), name
            assert runs[name] != reference
            assert runs[name].train.seed == reference.train.seed
        large = runs['fp16, unscaled, large batch']
        objective = precision.build_objective(large, placeholder(STUDY.vocab_size))
        targets = large.train.batch_size * objective.target_len
        assert 0 <= targets - STUDY.control_targets < objective.target_len
        assert runs['bf16_pure at 1e-5'].optim.peak_lr == 1e-5
    with pytest.raises(UserError, match='policies: fp12; give some of'):
        dataclasses.replace(STUDY, policies=('fp12',))
    with pytest.raises(UserError, match='seeds=1: an interval needs at least 2'):
        dataclasses.replace(STUDY, seeds=1)


def test_a_run_that_is_not_finite_is_kept_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Config] = []

    def diverges(config: Config, folder: Path) -> dict[str, Any]:
        calls.append(config)
        try:
            raise NonFinite('step 3: loss nan')
        except NonFinite as error:
            raise UserError(f'{error}; no checkpoint was saved before') from error

    monkeypatch.setattr(precision.lm, 'train', diverges)
    config = configs(STUDY, 'llama')['fp16, unscaled']
    expected = Outcome(None, 0, None, None)
    assert trained(config, tmp_path) == expected == trained(config, tmp_path)
    assert len(calls) == 1
    told = json.loads((tmp_path / precision.DIVERGED).read_text())
    assert told['error'].startswith('step 3: loss nan')
    assert from_json(told['config']) == config
    trained(override(config, {'train.seed': 1}), tmp_path)
    assert len(calls) == 2

    def refuses(config: Config, folder: Path) -> dict[str, Any]:
        raise UserError('the disk is full')

    monkeypatch.setattr(precision.lm, 'train', refuses)
    with pytest.raises(UserError, match='the disk is full'):
        trained(config, tmp_path / 'other')


Made = Callable[[str, int], float | None]


def outcomes(study: Setting, loss: Made) -> dict[str, dict[str, list[Outcome]]]:
    """Of a study of LLaMAs, by arm and seed."""
    return {
        'llama': {
            name: [
                Outcome(loss(name, seed), 1, 2.0 + (name == 'bf16_mixed'), f'{name}{seed}')
                for seed in range(study.seeds)
            ]
            for name in arms(study.policies)
        }
    }


def test_controls_behave_or_are_told_not_to() -> None:
    def good(name: str, seed: int) -> float | None:
        if name == 'fp16, unscaled, large batch':
            return None if seed == 0 else 3.0
        base = 5.0 + seed + (-1) ** seed * 1e-3 * ('A/A' in name)
        return base + (0.1 + 0.01 * seed) * (name in ('bf16_pure at 1e-5', 'bf16_mixed'))

    rows = analyze(STUDY, outcomes(STUDY, good))['llama']
    controls = {name: row['behaves'] for name, row in rows.items() if row['behaves'] is not None}
    assert controls == dict.fromkeys(
        ['A/A: fp32, 2 microbatches', 'bf16_pure at 1e-5', 'fp16, unscaled, large batch'], True
    )
    assert rows['bf16_mixed']['gap'] == pytest.approx(0.11)
    assert rows['bf16_mixed']['step_ratio'] == 1.5 and rows['bf16_mixed']['skipped'] == 3
    assert rows['fp16, unscaled, large batch']['verdict'].startswith('diverged in 1 of 3')
    assert controls_words({'families': {'llama': rows}}) == 'All controls behave.'
    same = compared([Outcome(1.0, 0, None, 'a')] * 2, [Outcome(1.0, 0, None, 'a')] * 2)
    assert same.verdict == 'the same bits'
    assert not compared(
        [Outcome(None, 0, None, None)] * 2, [Outcome(1.0, 0, None, None)] * 2
    ).same_bits

    def bad(name: str, seed: int) -> float | None:
        return 5.0 + seed + (0.1 + 0.001 * seed) * ('A/A' in name)

    rows = analyze(STUDY, outcomes(STUDY, bad))['llama']
    assert [row['behaves'] for row in rows.values() if row['must']] == [False, False, False]
    told = controls_words({'families': {'llama': rows}})
    assert told.startswith('CONTROLS FAILED: llama, A/A: fp32, 2 microbatches (had to be alike); ')
    assert told.count('had to be worse') == 2


@pytest.mark.parametrize('optimizer', ['adamw', 'adafactor'])
@pytest.mark.parametrize('policy', POLICIES)
def test_bytes_measured_are_those_planned(policy: str, optimizer: str) -> None:
    small = {
        'model.d_model': 32, 'model.num_layers': 1, 'model.vocab_size': 400, 'train.batch_size': 1,
        'train.seq_len': 16, 'optim.name': optimizer, 'precision.policy': policy, 'mesh.devices': 1,
    }  # fmt: skip
    config = lm.load_config('llama_tiny', **small)
    # Vocabulary padding is there and counted: 400 are 512 rows.
    assert config.model.padded_vocab_size > config.model.tokens
    measured, planned = measured_bytes(config, placeholder(400)), planned_bytes(config)
    assert measured == pytest.approx(planned, rel=1e-12)
    assert 'planned' in bytes_words({'measured': measured, 'planned': planned})
    other = {**planned, 'weights': 3}
    assert '**planned 3, ' in bytes_words({'measured': measured, 'planned': other})


def test_the_exit_status_tells_of_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['precision'])
    for behave, status in ((True, 0), (False, 1)):
        monkeypatch.setattr(precision, '_run', lambda _, told=behave: {'controls_behave': told})
        assert precision.main() == status


@pytest.mark.slow  # a study of all formats: more than half a minute
def test_a_tiny_study_runs_and_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    words = ['red', 'green', 'blue', 'bottles', 'hang', 'on', 'the', 'wall', 'and', 'fall']
    source = tmp_path / 'text.txt'
    source.write_text('\n\n'.join(' '.join(rng.choice(words, 60)) for _ in range(40)))
    monkeypatch.setenv('LM_CACHE', str(tmp_path / 'cache'))
    images = [tmp_path / 'gaps.svg', tmp_path / 'underflow.svg']
    # Each arm compiles for seconds: these are enough to go all the way.
    few = ('fp32', 'A/A: fp32, 2 microbatches')
    monkeypatch.setattr(precision, 'GRADIENTS_OF', few[:1])
    all_arms = arms(('fp32',))
    monkeypatch.setattr(precision, 'arms', lambda _: {name: all_arms[name] for name in few})
    given = [
        f'--source={source}', '--documents=blank_line', '--validation_fraction=0.2',
        '--families=llama', '--seeds=2', '--steps=4', '--d_model=16', '--num_layers=1',
        '--vocab_size=390', '--seq_len=16', '--batch_size=2', '--control_targets=64',
        '--control_steps=2', f'--workdir={tmp_path / "runs"}',
        f'--gaps_plot={images[0]}', f'--underflow_plot={images[1]}',
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', ['precision', *given])
    status = precision.main()
    told = capsys.readouterr()
    assert status in (0, 1), told.err
    result = json.loads(told.out)
    rows = result['families']['llama']
    assert list(rows) == list(few)
    assert all(0 < loss < 8 for row in rows.values() for loss in row['losses'])
    gaps = rows['A/A: fp32, 2 microbatches']['gaps']
    assert len(gaps) == 2 and any(gaps) and all(abs(gap) < 1e-4 for gap in gaps)
    assert '| llama | A/A: fp32, 2 microbatches |' in told.err and '4, 4, 8 as planned' in told.err
    assert (status == 0) == result['controls_behave']
    for run in result['underflow']['llama'].values():
        for one in run.values():
            assert sum(one['counts']) == one['nonzero'] > 0
            assert 0 <= one['below_scaled'] <= one['below'] < 1
    for image in images:
        assert image.read_text().lstrip().startswith('<?xml')

    def refuses(*_: object) -> None:
        raise AssertionError('a finished run was taken up again')

    monkeypatch.setattr('lm.training.run.run_program', refuses)
    assert precision.main() == status
    assert json.loads(capsys.readouterr().out)['families'] == result['families']
