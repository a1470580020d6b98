"""The recipe of experiments.nanogpt_char, its analysis, and its runs at a size of seconds."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import nanogpt_char
from experiments.nanogpt_char import PUBLISHED, analyze, configs, run
from lm.errors import UserError
from lm.resolution import override, to_json
from lm.training.program import build_schedule
from tests.training.runs import write_text


@pytest.mark.parametrize(
    ('preset', 'model', 'train'),
    [('', (4, 4, 128, 64, 0.0), (12, 2000)), ('gpu', (6, 6, 384, 256, 0.2), (64, 5000))],
)
def test_the_recipe_is_as_published(preset: str, model: tuple, train: tuple) -> None:
    config = configs('text.txt', preset)['seed0']
    m, t, o = config.model, config.train, config.optim
    assert (m.num_layers, m.num_heads, m.d_model, m.max_positions, m.dropout) == model
    assert (t.batch_size, t.steps) == train
    assert t.seq_len == m.max_positions
    assert (o.name, o.options.b1, o.options.b2, o.eps) == ('adamw', 0.9, 0.99, 1e-8)
    assert (o.weight_decay, o.clip_norm, config.data.validation_fraction) == (0.1, 1.0, 0.1)
    schedule = build_schedule(config)
    assert float(schedule(0)) == pytest.approx(1e-3 / 101, rel=1e-5)
    assert float(schedule(100)) == pytest.approx(1e-3)
    assert float(schedule(t.steps - 1)) == pytest.approx(1e-4, rel=1e-5)


def test_runs_differ_by_their_seed_alone() -> None:
    runs = configs('text.txt', seeds=2)
    assert [config.train.seed for config in runs.values()] == [0, 1]
    one, other = (to_json(replace(c, train=replace(c.train, seed=9))) for c in runs.values())
    assert one == other


def test_the_mean_decides_and_its_interval_is_students() -> None:
    bits = {name: {'bits_per_byte': nats / math.log(2)} for name, nats in
            (('a', 1.87), ('b', 1.88), ('c', 1.89))}  # fmt: skip
    told = analyze(bits, 1.885)
    assert told['mean'] == pytest.approx(1.88)
    # t of 2 degrees of freedom at 97.5 %: 4.3027.
    assert told['interval_95'] == pytest.approx([1.88 - 0.024841, 1.88 + 0.024841], abs=1e-5)
    assert told['reached'] and not analyze(bits, 1.875)['reached']
    assert analyze({'a': bits['a']}, 1.88)['interval_95'] is None


def test_a_tiny_run_is_told_and_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        'model.num_layers': 1, 'model.d_model': 16, 'model.num_heads': 2, 'train.steps': 4,
        'train.seq_len': 32, 'optim.warmup_steps': 2, 'eval.sample_tokens': 0, 'mesh.devices': 1,
        'data.cache_dir': str(tmp_path / 'cache'),
    }  # fmt: skip
    text = write_text(tmp_path / 'text.txt', size=6000)
    monkeypatch.setattr(
        nanogpt_char,
        'configs',
        lambda *words: {name: override(c, changes) for name, c in configs(*words).items()},
    )
    words = [f'--source={text}', f'--workdir={tmp_path / "runs"}', '--seeds=1']
    monkeypatch.setattr('sys.argv', ['nanogpt_char', *words])
    assert nanogpt_char.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert [*told['nats_per_character']] == ['seed0']
    assert 2 < told['mean'] < 7 and told['published'] == PUBLISHED['']
    assert not told['reached']
    # The same command again reads what is there.
    assert nanogpt_char.main() == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == told and err.count('nothing to do') == 1


def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (['--preset=tpu', '--source=x'], [], ['--source=x', '--workdir=y', '--seeds=0']):
        monkeypatch.setattr('sys.argv', ['nanogpt_char', *words])
        assert nanogpt_char.main() == 2
        assert capsys.readouterr().err.count('\n') == 1
    missing = configs(str(tmp_path / 'missing.txt'), seeds=1)
    with pytest.raises(UserError, match=r'missing\.txt'):
        run(missing, tmp_path)
