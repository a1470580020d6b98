"""Meshes: which devices, where rows lie, and the errors of batches that do not divide."""

import jax
import numpy as np
import pytest

from lm import UserError
from lm.batch import Batch
from lm.config import MeshConfig
from lm.mesh import build


def test_all_devices_by_default_or_as_many_as_asked() -> None:
    assert build(MeshConfig(), 16, 1).mesh.shape == {'replica': 8}
    assert build(MeshConfig(replica=2), 16, 1).mesh.shape == {'replica': 2}


def test_more_devices_than_there_are() -> None:
    with pytest.raises(UserError, match=r'mesh.replica=9: there are 8 devices; .*-1 for all'):
        build(MeshConfig(replica=9), 18, 1)


@pytest.mark.parametrize(
    ('batch_size', 'microbatches', 'multiple'), [(12, 1, 8), (16, 4, 32), (24, 2, 16)]
)
def test_rows_that_do_not_split_evenly(batch_size: int, microbatches: int, multiple: int) -> None:
    words = rf'train.batch_size={batch_size}: .*multiple of {multiple} or set mesh.replica'
    with pytest.raises(UserError, match=words) as caught:
        build(MeshConfig(), batch_size, microbatches)
    assert '\n' not in str(caught.value)
    build(MeshConfig(), multiple, microbatches)


def test_only_emulated_devices_are_waited_for_each_step() -> None:
    assert build(MeshConfig(), 16, 1).blocks_each_step
    assert not build(MeshConfig(replica=1), 16, 1).blocks_each_step


def test_rows_are_split_and_all_else_is_everywhere() -> None:
    layout = build(MeshConfig(), 16, 1)
    tokens = np.arange(16 * 3, dtype=np.int32).reshape(16, 3)
    placed = layout.place(Batch(tokens, tokens, tokens))
    assert placed.targets is None
    for shard in placed.tokens.addressable_shards:
        np.testing.assert_array_equal(shard.data, tokens[shard.index])
        assert shard.data.shape == (2, 3)
    everywhere = jax.device_put(tokens, layout.replicated)
    assert all(shard.data.shape == (16, 3) for shard in everywhere.addressable_shards)


def test_constrain_keeps_rows_where_they_are() -> None:
    layout = build(MeshConfig(), 16, 1)

    @jax.jit
    def gathered(x: jax.Array) -> jax.Array:
        return layout.constrain(x * 2, 'BTD')

    x = jax.device_put(np.ones((16, 2, 4), np.float32), layout.rows)
    assert gathered(x).sharding.spec[0] == 'replica'
    assert jax.jit(lambda x: layout.constrain(x, 'MBT'))(
        np.ones((2, 8, 4), np.float32)
    ).sharding.spec[:2] == (None, 'replica')
