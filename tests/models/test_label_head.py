"""The head for labels: what of its input is dropped while training."""

import jax
import numpy as np
import pytest
from flax import nnx

from lm.layout import Layout
from lm.models.architectures import bert
from lm.models.context import Context
from lm.models.embedding import Embedding
from lm.models.label_head import LabelHead
from tests.models.tiny import tiny


@pytest.mark.parametrize(('head', 'drops'), [('sequence', True), ('token', True), ('span', False)])
def test_states_are_dropped_before_labels_and_not_before_spans(head: str, drops: bool) -> None:
    labels = None if head == 'span' else 3
    spec = bert.spec(tiny('bert', head=head, num_labels=labels).config)
    made, embedding = LabelHead(spec, nnx.Rngs(0)), Embedding(spec, nnx.Rngs(1))
    x_BTD = jax.random.normal(jax.random.key(2), (2, 5, spec.config.d_model))
    whole = Context(Layout(), 'float32', dropout=0.5)
    training = Context(Layout(), 'float32', dropout=0.5, dropout_key=jax.random.key(3))
    given, trained = (np.asarray(made(x_BTD, embedding, how)) for how in (whole, training))
    assert given.shape == (2, 1 if head == 'sequence' else 5, 2 if head == 'span' else 3)
    assert (np.abs(given - trained).max() > 1e-3) == drops
