"""Which places each layer sees, where some see all and some a window on both sides."""

import jax
import numpy as np
import pytest

from lm.batch import Batch
from tests.models.tiny import VOCABULARY, perturbed, side, tiny

LENGTH, SEGMENTS, REACH = 18, [11, 7], 2


@pytest.mark.parametrize('scan_layers', [True, False])
def test_a_layer_sees_exactly_its_window(scan_layers: bool) -> None:
    # One layer at a time: the attention of all others writes nothing to the stream.
    options = {'local_reach': REACH, 'global_every': 3}
    model = tiny('modernbert', num_layers=5, options=options, scan_layers=scan_layers)
    ids = np.random.default_rng(0).permutation(VOCABULARY)
    batch = Batch(*side(SEGMENTS, LENGTH, ids))
    others = np.setdiff1d(np.arange(VOCABULARY), batch.tokens)
    weights = np.random.default_rng(1).standard_normal(len(others)).astype(np.float32)
    params, path = perturbed(model), 'encoder/layers/attention/output'

    def read(table_VD: jax.Array, output: jax.Array) -> jax.Array:
        logits_BTV = model.apply({**params, 'embedding/tokens': table_VD, path: output}, batch)
        return logits_BTV[0][:, others] @ weights

    gradient = jax.jit(jax.jacrev(read))
    own = batch.segment_ids[0][:, None] == batch.segment_ids[0][None, :]
    place = np.arange(LENGTH)
    near = np.abs(place[:, None] - place[None, :]) <= REACH
    for layer in range(5):
        alone = params[path].at[:layer].set(0).at[layer + 1 :].set(0)
        moved_TVD = np.abs(np.asarray(gradient(params['embedding/tokens'], alone)))
        moved_TS = moved_TVD.max(axis=-1)[:, batch.tokens[0]]
        seen_TS = own if layer % 3 == 0 else own & near
        assert (moved_TS[seen_TS] > 1e-6).all(), layer
        assert (moved_TS[~seen_TS] == 0).all(), layer
