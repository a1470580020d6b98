"""The objectives study: its runs are alike but for what it compares, and its figures are right."""

import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import objectives
from experiments.objectives import PAIRS, PLACES, Setting, analyze, configs, held_out_spans, table
from lm import registry
from lm.errors import UserError
from lm.planning.flops import train_flops_exact
from lm.planning.parameters import model_shape
from lm.planning.rows import num_asked, side_lengths
from lm.resolution import to_json
from tests.objectives.rows import store

SETTING = Setting('text.txt', flops=1e12, seeds=2)


def test_every_family_meets_every_objective_that_trains_it() -> None:
    family = {name: registry.lookup('models', name, '').FAMILY for name in ('bert', 'llama', 't5')}
    expected = {
        (model, name)
        for name in registry.names('objectives')
        if not hasattr(registry.lookup('objectives', name, ''), 'codec')
        for model in family
        if family[model] in registry.lookup('objectives', name, '').FAMILIES
    }
    assert set(PAIRS) == expected


def test_runs_have_the_same_flops_and_differ_in_nothing_else() -> None:
    runs = configs(SETTING)
    assert len(runs) == 2 * len(PAIRS)
    for config in runs.values():
        shape = model_shape(config.model)
        lengths = side_lengths(config, shape.family).values()
        row = train_flops_exact(shape, *lengths, asked=num_asked(config)).row
        step = config.train.batch_size * row
        assert SETTING.flops - step < config.train.steps * step <= SETTING.flops
    alike = [to_json(config) for config in runs.values()]
    for one in alike:
        del one['objective'], one['model'], one['train']['seed'], one['train']['steps']
        del one['optim']['warmup_steps']
    assert all(one == alike[0] for one in alike)
    assert Counter(c.train.seed for c in runs.values()) == {0: len(PAIRS), 1: len(PAIRS)}
    with pytest.raises(UserError, match='a step of bert with mlm takes'):
        configs(replace(SETTING, flops=1e6))
    # UL2's decoder has rows of 94 tokens, with bos and eos, of 128 places.
    with pytest.raises(UserError, match='text_tokens=93: rows of llama with ul2 hold 92'):
        configs(replace(SETTING, text_tokens=93))


def test_spans_lie_where_they_are_said_to() -> None:
    setting = replace(SETTING, spans=4, span_tokens=5, text_tokens=120)
    text = store([400, 100, 250])
    found = held_out_spans(text, setting)
    whole = {
        tuple(text.read(d, b, b + 120)) for d, b in ((0, 0), (0, 120), (0, 240), (2, 0), (2, 120))
    }
    for place, start in (('middle', 57), ('end', 115)):
        assert len(found[place]) == 4
        for span in found[place]:
            assert tuple(span.text) in whole
            assert (span.start, span.stop) == (start, start + 5)
    with pytest.raises(UserError, match='spans=9: the held-out text has'):
        held_out_spans(text, replace(setting, spans=9))


def test_means_and_intervals_are_over_seeds() -> None:
    found = {
        f'{model}-{objective}-seed{seed}': {
            'params': 1, 'steps': 2, 'tokens_trained_on': 3, 'targets': 4, 'eval_loss': 5.0,
            'nats_per_token': {'middle': 3.0 + i + seed, 'end': 2.0},
        }
        for i, (model, objective) in enumerate(PAIRS)
        for seed in range(2)
    }  # fmt: skip
    result = analyze(found, {'middle': 6.0, 'end': 6.1})
    row = result['pairs']['llama clm']
    assert row['middle']['nats'] == 4.5
    # Student's quantile of one degree of freedom is 12.706; the deviation of 4, 5 is sqrt(1/2).
    assert row['middle']['plus_minus_95'] == pytest.approx(12.7062 * math.sqrt(0.5 / 2), rel=1e-4)
    assert row['end']['plus_minus_95'] == 0
    assert '| llama clm | 1 | 2 | 3 | 4 | 4.500 ± 6.353 | 2.000 ± 0.000 | 5.000 |' in table(result)


@pytest.mark.slow  # a study of all families: a minute
def test_a_tiny_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    words = ['red', 'green', 'blue', 'bottles', 'hang', 'on', 'the', 'wall', 'and', 'fall']
    documents = [' '.join(rng.choice(words, 120)) for _ in range(60)]
    source = tmp_path / 'text.txt'
    source.write_text('\n\n'.join(documents))
    monkeypatch.setenv('LM_CACHE', str(tmp_path / 'cache'))
    pairs = (('bert', 'mlm'), ('t5', 'denoising'))
    monkeypatch.setattr(objectives, 'PAIRS', pairs)
    image = tmp_path / 'plot.svg'
    words_given = [
        f'--source={source}', '--documents=blank_line', '--validation_fraction=0.2',
        '--flops=6e9', '--seeds=1', '--d_model=16', '--vocab_size=400', '--seq_len=32',
        '--batch_size=8', '--spans=6', '--span_tokens=3', '--text_tokens=20',
        f'--workdir={tmp_path / "runs"}',
        f'--plot={image}',
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', ['objectives', *words_given])
    assert objectives.main() == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result['pairs']) == {'bert mlm', 't5 denoising'}
    for row in result['pairs'].values():
        for place in PLACES:
            assert 0 < row[place]['nats'] < 8 and row[place]['plus_minus_95'] is None
    assert 0 < result['bigram']['end'] < 5
    assert image.read_text().lstrip().startswith('<?xml')
