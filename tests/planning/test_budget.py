"""Budgets in closed form: whole steps, never more than is allowed."""

from typing import Any

import pytest

from lm.config import Config
from lm.data.packing import PackedRows
from lm.errors import UserError
from lm.named_configs import load_config
from lm.objectives._objective import build_objective
from lm.planning.budget import budget_steps, hours_steps, with_steps
from lm.planning.plan import plan
from lm.planning.plan_json import as_json
from lm.planning.plan_text import as_text
from lm.planning.rows import tokens_per_row
from lm.resolution import from_json, override, to_json
from lm.vocabulary import placeholder
from tests.objectives.rows import store


def config_of(name: str = 'gpt2_124m', **train: Any) -> Config:
    sizes = {'train.batch_size': 4, 'train.seq_len': 128}
    return load_config(name, **sizes, **{f'train.{field}': x for field, x in train.items()})


GPT2_PARAMS = 124_439_808  # Radford et al. 2019, as Hugging Face counts them: tied once
GPT2_MATRICES = 12 * 12 * 768**2 + 50257 * 768  # of the layers, and the output matrix
FLOPS_PER_STEP = 6 * 4 * 128 * GPT2_MATRICES


@pytest.mark.parametrize(
    ('budget', 'steps'),
    [
        ({'tokens': 512}, 1),
        ({'tokens': 512 * 9 + 511}, 9),
        ({'tokens': 2**60 - 1}, 2**51 - 1),
        ({'flops': float(FLOPS_PER_STEP)}, 1),
        ({'flops': 1e18}, int(1e18) // FLOPS_PER_STEP),
        ({'tokens_per_param': 20.0}, 20 * GPT2_PARAMS // 512),
        ({'tokens_per_param': 0.5}, GPT2_PARAMS // 2 // 512),
        ({'hours': 1.0}, None),
        ({'steps': 77}, 77),
    ],
)
def test_steps_of_a_budget(budget: dict[str, Any], steps: int | None) -> None:
    config = config_of(**budget)
    assert budget_steps(config) == steps
    assert budget_steps(with_steps(config, steps)) == steps


def test_the_sides_of_an_encoder_decoder_are_both_counted() -> None:
    config = load_config('t5v11_base', **{'train.batch_size': 2, 'train.tokens': 10**6})
    # Raffel et al. 2020, section 3.1.4: 568 raw tokens make rows of 512 and 114.
    assert budget_steps(config) == 10**6 // (568 * 2)


@pytest.mark.parametrize('name', ['bert_tiny', 'llama_tiny', 't5_tiny', 'bart_base'])
def test_tokens_of_a_row_are_the_packing_indexs(name: str) -> None:
    config = override(load_config(name), {'model.vocab_size': 400})
    vocabulary = placeholder(400)
    objective = build_objective(config, vocabulary)
    rows = PackedRows(store([900]), vocabulary, objective.row_len, objective.overlap, 0, True)
    assert tokens_per_row(config) == rows.stride


def test_hours_are_steps_of_so_many_seconds() -> None:
    config = config_of(hours=1.0)
    assert hours_steps(config, 2.0) == 1800
    assert hours_steps(config, 7.0) == 514  # 3598 of 3600 seconds
    with pytest.raises(UserError, match=r'train\.hours=1\.0: less than one step.*4000 seconds'):
        hours_steps(config, 4000.0)


@pytest.mark.parametrize(
    ('budget', 'words'),
    [
        ({'tokens': 511}, 'train.tokens=511: less than one step, which takes 512 tokens'),
        ({'flops': 1.0}, f'which takes {FLOPS_PER_STEP:.6g} FLOPs'),
        ({'tokens_per_param': 1e-9}, f'512 tokens, with {GPT2_PARAMS} parameters'),
    ],
)
def test_less_than_a_step_is_refused(budget: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        budget_steps(config_of(**budget))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ('train', 'words'),
    [
        ({'tokens': 999, 'flops': 1e9}, 'train.tokens=999, train.flops=1000000000.0: each says'),
        ({'steps': 5, 'hours': 1.0}, 'train.steps=5, train.hours=1.0: each says how long'),
        ({'tokens': 0}, 'train.tokens=0: must be positive'),
        ({'hours': -1.0}, 'train.hours=-1.0: must be positive'),
        ({'tokens': 1e9}, 'must be int or none, not float; give 1000000000'),
    ],
)
def test_a_mistake_is_told_in_a_line(train: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        config_of(**train)
    assert words in str(caught.value)


def test_the_last_word_on_the_length_counts() -> None:
    tokens = config_of(tokens=5120)
    assert override(tokens, {'train.steps': 5}).train.budget is None
    assert override(tokens, {'train.flops': 1e15}).train.budget == 'flops'
    assert override(tokens, {'train.seed': 5}).train.budget == 'tokens'
    assert override(tokens, {'train.tokens': None}).train.budget is None
    # What a run keeps has both: the budget, and what it came to.
    settled = with_steps(tokens, 10)
    assert from_json(to_json(settled)) == settled
    assert settled.train.length_words == 'train.steps=10 (train.tokens=5120)'


def test_a_plan_tells_the_same_steps() -> None:
    known, timed = plan(config_of(tokens=5120)), plan(config_of(hours=1.0))
    assert {one['steps'] for one in as_json(known).values()} == {10}
    assert '\nsteps: 10 (train.tokens=5120)\n' in as_text(known)
    assert {one['steps'] for one in as_json(timed).values()} == {None}
    assert 'steps: timed when the run begins (train.hours=1)' in as_text(timed)
