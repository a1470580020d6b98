"""Each architecture against an implementation of its own in float64, `reference.py`."""

import jax
import numpy as np
import pytest

from lm import registry
from lm.batch import Batch
from tests.models import reference
from tests.models.tiny import VOCABULARY, packed_batch, perturbed, predicting, side, tiny

TOLERANCE = 2e-5
"""Of the logits' scale: the largest of them."""


T5_1_0 = {'gated': False, 'tie_embeddings': True}
NARROW = {'local_reach': 1, 'global_every': 2}


@pytest.mark.parametrize(
    ('name', 'options'),
    [*((name, {}) for name in registry.names('models')), ('t5', T5_1_0), ('modernbert', NARROW)],
)
@pytest.mark.parametrize('kv_heads', [3, 6])
def test_logits_equal_the_papers_formulas(name: str, options: dict, kv_heads: int) -> None:
    model = tiny(name, num_kv_heads=kv_heads, options=options)
    params = perturbed(model)
    batch = packed_batch(model)
    got = np.asarray(jax.jit(model.apply)(params, batch))[0, :, :VOCABULARY]
    exact = {path: np.asarray(array, np.float64) for path, array in params.items()}
    tokens, segments = predicting(batch)
    for segment in (1, 2):
        documents = [np.asarray(batch.tokens)[0][np.asarray(batch.segment_ids)[0] == segment]]
        if model.family == 'encoder_decoder':
            documents.append(tokens[0][segments[0] == segment])
        want = getattr(reference, name)(exact, model.config, *documents)[:, :VOCABULARY]
        difference = np.abs(got[segments[0] == segment] - want).max()
        assert difference <= TOLERANCE * np.abs(want).max()


def test_relative_positions_beyond_the_largest_distance() -> None:
    model = tiny('t5', num_layers=1)
    params = perturbed(model)
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=300)
    batch = Batch(*side([300], 300, tokens), *side([200], 200, tokens[::-1]))
    got = np.asarray(jax.jit(model.apply)(params, batch))[0, :, :VOCABULARY]
    exact = {path: np.asarray(array, np.float64) for path, array in params.items()}
    want = reference.t5(exact, model.config, tokens, tokens[::-1][:200])[:, :VOCABULARY]
    assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max()
