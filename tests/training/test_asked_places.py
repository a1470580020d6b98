"""A step of masked language modelling computes the logits of the places it asks for alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lm
from lm.batch import Batch, Row, stack
from lm.models.functional import functional
from lm.objectives._objective import build_objective
from lm.precision.policy import POLICIES
from lm.training.program import build_program
from lm.training.step import asked_places, build_gradient_of_sum
from lm.vocabulary import placeholder
from tests.models.tracing import equations
from tests.training.runs import CONFIG

ROWS, LENGTH, VOCABULARY = 4, 32, 250


def batch_and_parts() -> tuple[Batch, object, object]:
    changes = {'model.vocab_size': VOCABULARY, 'data.source': 'x', 'precision.policy': 'fp32'}
    config = lm.load_config(f'{CONFIG}:bert', **changes)
    objective = build_objective(config, placeholder(VOCABULARY))
    draw = np.random.default_rng(0)
    rows = []
    for filled in (LENGTH, LENGTH, 9, 1):
        ids = (np.arange(LENGTH) < filled).astype(np.int32)
        tokens = draw.integers(200, VOCABULARY, LENGTH).astype(np.int32)
        row = Row(tokens, ids, np.arange(LENGTH, dtype=np.int32) * ids, ids)
        rows.append(objective.example(row, draw))
    return stack(rows), objective, functional(config.model, POLICIES['fp32'])


def test_loss_and_gradients_are_those_of_all_places() -> None:
    batch, objective, model = batch_and_parts()
    params = model.init(jax.random.key(0))

    def whole(params, batch, _):
        return objective.loss(model.apply(params, batch), batch)

    key = jax.random.key(0)
    want = jax.jit(jax.value_and_grad(whole, has_aux=True))(params, batch, key)
    gradient_of_sum = build_gradient_of_sum(model, objective)

    def asked(params, batch, key):
        return gradient_of_sum(params, batch, key, None)

    got = jax.jit(asked)(params, batch, key)
    assert float(want[0][1]) == np.count_nonzero(batch.loss_weights) > 2
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5 * max(1e-3, float(jnp.abs(y).max())))
    shapes = {
        out.aval.shape
        for equation, _ in equations(jax.make_jaxpr(asked)(params, batch, key).jaxpr)
        for out in equation.outvars
    }
    width = model.config.padded_vocab_size
    assert (ROWS, 8, width) in shapes and (ROWS, LENGTH, width) not in shapes


def test_places_that_count_come_first_and_in_order() -> None:
    weights_BT = jnp.asarray([[0, 1, 0, 0.5, 0, 2], [0, 0, 0, 0, 1, 0]])
    places_BA = asked_places(weights_BT, 3)
    assert places_BA.tolist()[0] == [1, 3, 5] and places_BA.tolist()[1][0] == 4


def test_no_row_has_more_targets_than_are_said() -> None:
    batch, objective, _ = batch_and_parts()
    assert np.count_nonzero(batch.loss_weights, axis=1).max() == objective.most_targets == 5


def test_rows_of_more_segments_than_the_step_was_built_for_are_refused() -> None:
    batch, _, _ = batch_and_parts()
    changes = {'model.vocab_size': VOCABULARY, 'data.source': 'x', 'train.batch_size': ROWS}
    config = lm.load_config(f'{CONFIG}:bert', **changes, **{'precision.policy': 'fp32'})
    program = build_program(config, placeholder(VOCABULARY), segments=3)
    two = np.array(batch.segment_ids)
    two[0, 20:] = 2
    assert program.place(batch._replace(segment_ids=two)) is not None
    three = two.copy()
    three[0, 30:] = 3
    with pytest.raises(RuntimeError, match='a row of 3 segments, where the step was built for 3'):
        program.place(batch._replace(segment_ids=three))
