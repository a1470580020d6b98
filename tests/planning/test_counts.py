"""Parameter counts: equal to the built tree, and to the published numbers."""

import csv
import math
import os
from pathlib import Path
from typing import Any

import jax
import pytest

from lm import registry
from lm.config import ModelConfig
from lm.models.functional import functional
from lm.named_configs import load_config
from lm.planning.counts import count_parameters
from lm.precision.policy import POLICIES
from tests.models.tiny import tiny

REPO = Path(__file__).parent.parent.parent

PUBLISHED = {
    # The four rows of shared/scaling/param_counts_a.csv (total, matmul without embedding).
    # GPT-2: sizes of Radford et al. 2019, table 2; LLaMA: Touvron et al. 2023, table 2.
    'gpt2': (12, 768, 3072, 50_257, 1024, 124_439_808, 84_934_656),
    'gpt2-medium': (24, 1024, 4096, 50_257, 1024, 354_823_168, 301_989_888),
    'gpt2-xl': (48, 1600, 6400, 50_257, 1024, 1_557_611_200, 1_474_560_000),
    'llama-7b': (32, 4096, 11_008, 32_000, 2048, 6_738_415_616, 6_476_005_376),
}


def count(name: str, layers: int, width: int, ff: int, vocabulary: int, positions: int) -> Any:
    config = ModelConfig(
        name=name,
        num_layers=layers,
        d_model=width,
        num_heads=width // 64,
        d_ff=ff,
        vocab_size=vocabulary,
        max_positions=max(positions, 1),
    )
    return count_parameters(functional(config, POLICIES['fp32']))


@pytest.mark.parametrize('model', [*PUBLISHED])
def test_published_counts(model: str) -> None:
    *sizes, total, matmul = PUBLISHED[model]
    got = count(model.split('-')[0], *sizes)
    assert (got.total, got.matmul) == (total, matmul)


def test_published_counts_of_the_shared_table() -> None:
    shared = Path(os.environ.get('LM_SHARED', REPO.parent / 'shared'))
    table = shared / 'scaling' / 'param_counts_a.csv'
    if not table.is_file():
        pytest.skip(f'no {table.name}; LM_SHARED names the folder that holds it')
    rows = csv.DictReader(line for line in table.open() if not line.startswith('#'))
    for row in rows:
        sizes = ('n_layers', 'd_model', 'd_ff', 'vocab', 'n_pos')
        got = count(row['family'], *(int(row[size]) for size in sizes))
        assert got.total == int(row['total_params']), row['model']
        assert got.matmul == int(row['matmul_params_no_embed']), row['model']


@pytest.mark.parametrize(
    'config_name, total',
    [
        # Hugging Face's t5-v1_1-base.
        ('t5v11_base', 247_577_856),
        # Hugging Face's ModernBERT-base (`tests/hub/test_folder.py` counts its tensors).
        ('modernbert_base', 149_655_232),
        # Hugging Face's bart-base.
        ('bart_base', 139_420_416),
        # Raffel et al. 2020, section 3.1.1: about 220M; Hugging Face's t5-base.
        ('t5_base', 222_903_552),
        # Zhang et al. 2024: 1.1B; the count of the released weights.
        ('tinyllama_1b', 1_100_048_384),
        # Touvron et al. 2023 (b): 70B; the count of the released weights.
        ('llama_70b', 68_976_648_192),
        # Biderman et al. 2023, table 1: 85,056,000 without 2 x 50,304 x 768 of embeddings.
        ('pythia_160m', 162_322_944),
        # Hugging Face's BertForMaskedLM of bert-base-uncased.
        ('bert_base', 109_514_298),
        # Scao et al. 2022, table 3: 559M; Hugging Face's bloom-560m.
        ('bloom_560m', 559_214_592),
    ],
)
def test_counts_of_released_weights(config_name: str, total: int) -> None:
    config = load_config(config_name).model
    assert count_parameters(functional(config, POLICIES['fp32'])).total == total


def test_roberta_base_differs_from_the_published_count_by_token_types() -> None:
    # 124,697,433 is Hugging Face's RobertaForMaskedLM of roberta-base, with one row of them.
    got = count_parameters(functional(load_config('roberta_base').model, POLICIES['fp32']))
    assert got.total + 768 == 124_697_433


def test_bert_base_differs_from_the_published_encoder_by_its_head_and_the_pooler() -> None:
    # 109,482,240 is Hugging Face's BertModel of bert-base-uncased: no masked-language-model
    # head, but a pooler (a dense layer on the first position), which is not built here.
    got = count_parameters(functional(load_config('bert_base').model, POLICIES['fp32']))
    pooler = 768 * 768 + 768
    assert got.total - got.by_group['head'] + pooler == 109_482_240


@pytest.mark.parametrize('name', registry.names('models'))
def test_counts_equal_the_built_tree(name: str) -> None:
    model = tiny(name)
    params = jax.eval_shape(model.init, jax.random.key(0))
    got = count_parameters(model)
    assert got.total + got.padding == sum(array.size for array in params.values())
    assert got.total == sum(got.by_group.values())
    held = {path: math.prod(shape.shape) for path, shape in model.shapes.items()}
    vocabulary = sum(held[path] for path in held if 'V' in model.dims[path])
    assert got.padding == vocabulary * 3 // 40  # 37 tokens in 40 rows
