"""Parameters in closed form: equal to the built tree, whatever the sizes and options."""

import random
import typing
from typing import Any

import pytest

from lm import registry
from lm.config import ModelConfig
from lm.errors import UserError
from lm.models.functional import functional
from lm.models.spec import PositionKind
from lm.named_configs import load_config
from lm.planning.counts import count_parameters
from lm.planning.parameters import model_shape
from lm.precision.policy import POLICIES
from tests.models.tiny import read_by

POSITIONS = [*typing.get_args(PositionKind)]
CHOICES: dict[str, dict[str, list[Any]]] = {
    'bert': {'head': [True, False], 'positions': POSITIONS},
    'gpt2': {'positions': POSITIONS},
    'gpt_neox': {'positions': POSITIONS, 'tie_embeddings': [True, False]},
    'llama': {
        'qkv_bias': [True, False],
        'qk_norm': [True, False],
        'tie_embeddings': [True, False],
        'positions': POSITIONS,
    },
    'modernbert': {'head': [True, False], 'positions': POSITIONS},
    'roberta': {
        'head': [True, False],
        'position_offset': [0, 2],
        'positions': POSITIONS,
        'token_types': [0, 1],
    },
    'bart': {'positions': POSITIONS},
    'gru': {'tie_embeddings': [True, False]},
    'lstm': {'tie_embeddings': [True, False]},
    'gru_seq2seq': {'tie_embeddings': [True, False]},
    'lstm_seq2seq': {'tie_embeddings': [True, False]},
    'bloom': {'positions': POSITIONS},
    't5': {
        'positions': POSITIONS,
        'relative_buckets': [8, 32],
        'gated': [True, False],
        'tie_embeddings': [True, False],
    },
}
"""The options that decide which parameters there are."""


def drawn(name: str, seed: int) -> ModelConfig:
    """A small model with sizes and options drawn from `seed`."""
    draw = random.Random(f'{name} {seed}')
    groups = draw.choice([1, 2, 3])
    options = {field: draw.choice(values) for field, values in CHOICES.get(name, {}).items()}
    heads = groups * draw.choice([1, 2])
    sizes: dict[str, Any] = {
        'num_layers': draw.choice([1, 3]),
        'd_model': heads * draw.choice([2, 10, 34]),
        'num_heads': heads,
        'num_kv_heads': draw.choice([None, groups]),
        'head_dim': draw.choice([None, 6]),
        'd_ff': draw.choice([None, 29]),
        'vocab_size': draw.randrange(5, 300),
        'vocab_multiple': draw.choice([1, 16]),
        'max_positions': draw.choice([7, 40]),
        'options': registry.lookup('models', name, 'model.name').Options(**options),
    }
    return ModelConfig(name=name, **read_by(name, sizes))


def assert_equal_to_the_built_tree(config: ModelConfig) -> None:
    built, counted = functional(config, POLICIES['fp32']), model_shape(config)
    assert counted.dims == dict(built.dims)
    assert {path: shape.shape for path, shape in counted.shapes.items()} == {
        path: tuple(shape.shape) for path, shape in built.shapes.items()
    }
    assert (counted.config, counted.family) == (built.config, built.family)
    assert count_parameters(counted) == count_parameters(built)


@pytest.mark.parametrize('name', registry.names('configs'))
def test_named_configs(name: str) -> None:
    config = load_config(name)
    if config.model.vocab_size is None:
        config = load_config(name, **{'model.vocab_size': 1000})
    assert_equal_to_the_built_tree(config.model)


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('name', registry.names('models'))
def test_drawn_models(name: str, seed: int) -> None:
    assert_equal_to_the_built_tree(drawn(name, seed))


@pytest.mark.parametrize('name', registry.names('models'))
def test_every_option_that_decides_parameters_is_drawn(name: str) -> None:
    # A new option would slip past `drawn`: it must be listed here as deciding them, or not.
    indifferent = {
        'activation', 'attention_window', 'decoder_start', 'forget_bias', 'global_every',
        'init_std', 'local_reach', 'local_rope_theta', 'norm_eps', 'parallel',
        'relative_max_distance', 'rope_factor', 'rope_high_freq_factor', 'rope_low_freq_factor',
        'rope_original_positions', 'rope_scaling', 'rope_share', 'rope_theta',
        'scale_residual_init',
    }  # fmt: skip
    fields = registry.lookup('models', name, 'model.name').Options.__dataclass_fields__
    assert set(fields) - indifferent == set(CHOICES.get(name, {}))


def test_an_architecture_without_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, ('models', 'mine'), object())
    with pytest.raises(UserError, match='model.name=mine: defines no spec'):
        model_shape(ModelConfig(name='mine'))
