"""A model of a user's file, which is given the documented arguments and no others."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import lm
from lm import UserError, registry
from lm.config import CheckpointConfig
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.training.checkpoint import Checkpoints
from lm.training.convert import convert
from lm.training.program import build_program
from lm.training.step import Metrics
from lm.training.workdir import Workdir
from tests.training.numerics import VOCABULARY, batches

OWN = Path(__file__).parent.parent / 'launch' / 'own_members.py'
SIZES = {'model.vocab_size': VOCABULARY.size, 'train.batch_size': 16, 'train.seq_len': 16}


@pytest.fixture
def config() -> Iterator[lm.config.Config]:
    """Of the file's model; its members are gone afterwards."""
    before = dict(registry._registered)
    yield lm.load_config(str(OWN), **SIZES, **{'precision.policy': 'fp32'})
    registry._registered.clear()
    registry._registered.update(before)


def test_it_trains(config: lm.config.Config) -> None:
    made = build_program(config, VOCABULARY)
    state, losses = made.init_state(), []
    for batch in batches(made, 1) * 8:
        state, packed = made.step(state, made.layout.place(batch))
        losses.append(Metrics.unpacked(jax.block_until_ready(packed)).loss)
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_some_logits_of_it_are_those_of_all(config: lm.config.Config) -> None:
    made = build_program(config, VOCABULARY)
    params, [batch] = made.init_state().params, batches(made, 1)
    asked_BA = np.tile(np.array([[7, 2, 11]], np.int32), (16, 1))
    some = made.functional.apply(
        params, batch, asked_BA=jax.numpy.asarray(asked_BA), dtype='bfloat16'
    )
    logits_BTV = made.functional.apply(params, batch)
    assert some.dtype == jax.numpy.bfloat16
    np.testing.assert_array_equal(
        some, np.asarray(logits_BTV)[:, [7, 2, 11]].astype(jax.numpy.bfloat16)
    )


def test_it_is_not_made_int8(config: lm.config.Config, tmp_path: Path) -> None:
    made = build_program(config, VOCABULARY)
    workdir = Workdir(tmp_path / 'run')
    workdir.create()
    checkpoints = Checkpoints(workdir.checkpoints, CheckpointConfig())
    checkpoints.save(made.init_state(), {})
    checkpoints.close()
    workdir.write_config(config)
    with pytest.raises(UserError, match=r'^--quantize=int8: model.name=nplm is a model of yours'):
        convert(workdir.path, tmp_path / 'small', None, 10**9, quantize=True)
    assert not (tmp_path / 'small').exists()


@pytest.mark.parametrize('policy', [name for name, p in POLICIES.items() if p.quantization])
def test_its_products_are_not_left_unquantized_in_silence(
    config: lm.config.Config, policy: str
) -> None:
    with pytest.raises(
        UserError, match=f'^precision.policy={policy}: model.name=nplm is a model of'
    ):
        functional(config.model, POLICIES[policy])
