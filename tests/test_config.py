"""Configs: what they refuse, how they are changed, named, written and read."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import pytest

from lm import registry
from lm.config import Config, ModelConfig, TrainConfig
from lm.errors import UserError
from lm.fields import field_types, flatten, is_instance, type_words
from lm.named_configs import load_config, named_config
from lm.resolution import from_json, override, resolve, to_json

NAMED = registry.names('configs')


@pytest.fixture(autouse=True)
def no_member_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, '_registered', {})


@pytest.mark.parametrize('name', NAMED)
def test_a_named_config_resolves_and_survives_json(name: str) -> None:
    config = load_config(name)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize('name', NAMED)
def test_an_unknown_preset_is_refused(name: str) -> None:
    with pytest.raises(UserError, match='nonesuch'):
        named_config(f'{name}:nonesuch')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'model.num_heads': 3}, 'model.num_heads=3: does not divide model.d_model=128'),
        ({'model.num_kv_heads': 3}, 'must divide model.num_heads=4'),
        ({'model.num_layers': 0}, 'model.num_layers=0: must be at least 1'),
        ({'model.dropout': 1.0}, 'model.dropout=1.0'),
        ({'model.scan_unroll': 3}, 'model.scan_unroll=3: does not divide model.num_layers=4'),
        (
            {'model.scan_unroll': 2, 'model.scan_layers': False},
            'model.scan_unroll=2: there is no scan; set model.scan_layers=True',
        ),
        ({'train.microbatches': 3}, 'does not divide train.batch_size=32'),
        ({'train.seq_len': 2048}, 'longer than model.max_positions=1024'),
        ({'train.seed': -1}, 'train.seed=-1'),
        ({'optim.peak_lr': 0.0}, 'optim.peak_lr=0.0: must be positive'),
        ({'optim.peak_lr': float('nan')}, 'optim.peak_lr=nan'),
        ({'optim.clip_norm': 0.0}, 'none for no clipping'),
        ({'optim.final_lr_fraction': 1.5}, 'must be in'),
        ({'data.source': ''}, 'data.source: empty'),
        ({'data.validation_fraction': 1.0}, 'between 0 and 1'),
        ({'eval.sample_tokens': -1}, 'eval.sample_tokens=-1'),
        ({'checkpoint.every_steps': 0}, 'checkpoint.every_steps=0'),
        ({'mesh.replica': 0}, 'mesh.replica=0'),
        ({'train.steps': '10'}, "train.steps='10': must be int, not str"),
        ({'train.steps': True}, 'must be int, not bool'),
        ({'model.remat': 'some'}, 'must be one of none, full, dots, offload'),
        ({'train.step': 10}, 'did you mean train.steps?'),
        ({'train.name': 'x'}, 'train.name: no such field'),
        ({'model.name': 'lama'}, 'model.name=lama: no such member; did you mean llama?'),
    ],
)
def test_a_change_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Config(), changes)
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_changes_are_checked_together() -> None:
    # Either change alone is refused: 96 / 4 x 5 heads do not divide.
    changed = override(Config(), {'model.num_heads': 5, 'model.d_model': 100})
    assert (changed.model.num_heads, changed.model.d_model) == (5, 100)


def test_options_follow_the_member() -> None:
    adamw = override(Config(), {'optim.options.b1': 0.8})
    assert adamw.optim.options.b1 == 0.8
    sgd = override(adamw, {'optim.name': 'sgd', 'optim.options.momentum': 0.5})
    assert sgd.optim.options.momentum == 0.5
    with pytest.raises(UserError, match=r'optim\.options\.b1: no such field'):
        override(sgd, {'optim.options.b1': 0.8})


def test_an_objective_that_the_family_lacks_is_refused() -> None:
    config = override(Config(), {'model.name': 'bert'})
    with pytest.raises(UserError, match=r'objective\.name=clm: model\.name=bert is of the encoder'):
        resolve(config)


def test_load_config_takes_paths_and_sections() -> None:
    by_path = load_config(NAMED[0], **{'train.steps': 7})
    by_section = load_config(NAMED[0], train={'steps': 7})
    assert by_path == by_section
    assert by_path.train.steps == 7


@pytest.mark.parametrize('kind', ['models', 'objectives', 'optimizers'])
def test_every_option_has_a_meaning(kind: str) -> None:
    for name in registry.names(kind):
        options = registry.lookup(kind, name, kind).Options()
        missing = [path for path, (_, meaning) in field_types(options).items() if not meaning]
        assert not missing, f'{kind} {name}'


def test_every_field_has_a_meaning_and_a_default_of_its_type() -> None:
    values = flatten(Config())
    for path, (annotation, meaning) in field_types(Config()).items():
        assert meaning, path
        assert is_instance(values[path], annotation), path


@pytest.mark.parametrize(
    ('annotation', 'words', 'good', 'bad'),
    [
        (int, 'int', 3, 3.0),
        (float, 'float', 3, True),
        (bool, 'true or false', True, 1),
        (str, 'text', 'a', 3),
        (int | None, 'int or none', None, 'x'),
        (Literal['a', 'b'], 'one of a, b', 'b', 'c'),
        (Literal['a'] | None, 'one of a or none', None, 'b'),
        (tuple[int, ...], 'a comma-separated list of int', (1, 2), (1, 'x')),
    ],
)
def test_types(annotation: Any, words: str, good: Any, bad: Any) -> None:
    assert type_words(annotation) == words
    assert is_instance(good, annotation)
    assert not is_instance(bad, annotation)


OWN_MODEL = """
from __future__ import annotations
import dataclasses, sys
from lm.config import *
from lm import registry
from lm.fields import setting

@dataclasses.dataclass(frozen=True)
class Options:
    width: int = setting(3, 'of the door')

FAMILY = 'decoder'
registry.register('models', 'own', sys.modules[__name__])

def config(preset: str = '') -> Config:
    return Config(ModelConfig(name='own', num_layers=9 if preset == 'deep' else 2))
"""


def test_a_users_file_brings_its_own_member_and_presets(tmp_path: Path) -> None:
    file = tmp_path / 'mine.py'
    file.write_text(OWN_MODEL)
    config = load_config(str(file), **{'model.options.width': 4})
    assert dataclasses.asdict(config.model.options) == {'width': 4}
    assert load_config(f'{file}:deep').model.num_layers == 9


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, 'no such file'),
        ('x = (', 'line 1: SyntaxError'),
        ('\n\nimport nonesuch', 'line 3: ModuleNotFoundError'),
        ('def config(preset):\n    return undefined', 'line 2: NameError'),
        ('x = 1', 'defines no config(preset)'),
        ('def config(preset):\n    return 3', 'returned no lm Config'),
        ('def config():\n    return 3', 'TypeError'),
    ],
)
def test_a_users_broken_file_is_told_in_a_line(
    tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / 'mine.py'
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        named_config(str(file))
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_shipped_name_cannot_be_taken_but_ones_own_can_be_renewed() -> None:
    with pytest.raises(UserError, match='already exists'):
        registry.register('models', 'llama', object())
    with pytest.raises(UserError, match='did you mean models'):
        registry.register('model', 'mine', object())
    first, second = object(), object()
    registry.register('schedules', 'mine', first)
    registry.register('schedules', 'mine', second)
    assert registry.lookup('schedules', 'mine', 'optim.schedule') is second


def test_derived_shapes() -> None:
    model = ModelConfig(d_model=96, num_heads=6, num_kv_heads=2, vocab_size=1000)
    assert (model.kv_heads, model.head_width, model.padded_vocab_size) == (2, 16, 1024)
    with pytest.raises(UserError, match=r'model\.vocab_size: unset'):
        _ = ModelConfig().tokens
    assert TrainConfig().microbatches == 1
