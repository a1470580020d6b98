"""Meshes: which devices, where rows lie, and the errors of batches that do not divide."""

from typing import Any

import jax
import numpy as np
import pytest

from lm import UserError
from lm.batch import Batch
from lm.config import MeshConfig
from lm.mesh import build
from lm.mesh.axes import axis_sizes


def sizes(**fields: Any) -> list[int]:
    return list(axis_sizes(MeshConfig(**fields), 8).values())


def test_what_the_axes_are_where_they_are_not_given() -> None:
    assert sizes() == [8, 1, 1, 1]
    for stage in ('zero1', 'zero2', 'zero3'):
        assert sizes(strategy=stage) == [1, 8, 1, 1]
    assert sizes(strategy='zero3', tensor=2) == [1, 4, 2, 1]
    assert sizes(strategy='zero3', replica=2) == [2, 4, 1, 1]
    assert sizes(strategy='zero3', fsdp=2, replica=-1, seq=2) == [2, 2, 1, 2]
    assert sizes(tensor=-1) == [1, 1, 8, 1]
    assert sizes(tensor=4, seq=2) == [1, 1, 4, 2]
    assert sizes(devices=2) == [2, 1, 1, 1]
    assert sizes(strategy='zero2', devices=1) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'devices': 9}, 'mesh.devices=9: there are 8 devices'),
        ({'replica': 3}, 'mesh.replica=3: the axes hold 3 devices and there are 8'),
        ({'replica': 1}, 'mesh.replica=1: the axes hold 1 devices and there are 8'),
        ({'tensor': 3}, 'mesh.replica=2, mesh.tensor=3: the axes hold 6 devices and there are 8'),
        ({'fsdp': 16, 'strategy': 'zero3'}, 'mesh.fsdp=16: the axes hold 16 devices'),
        ({'replica': -1, 'tensor': -1}, 'mesh.tensor=-1: mesh.replica takes the rest already'),
        ({'strategy': 'zero3', 'fsdp': 1}, 'mesh.fsdp=1: zero3 splits over fsdp'),
        ({'strategy': 'zero3', 'fsdp': 1, 'replica': 8}, 'mesh.fsdp=1: zero3 splits over fsdp'),
        ({'strategy': 'zero1', 'tensor': 8}, 'mesh.fsdp=1: zero1 splits over fsdp'),
    ],
)
def test_axes_that_do_not_make_the_devices(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        sizes(**fields)
    assert words in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('batch_size', 'microbatches', 'multiple'), [(12, 1, 8), (16, 4, 32), (24, 2, 16)]
)
def test_rows_that_do_not_split_evenly(batch_size: int, microbatches: int, multiple: int) -> None:
    words = rf'train.batch_size={batch_size}: .*multiple of {multiple} or change the mesh'
    with pytest.raises(UserError, match=words) as caught:
        build(MeshConfig(), batch_size, microbatches)
    assert '\n' not in str(caught.value)
    build(MeshConfig(), multiple, microbatches)


def test_only_emulated_devices_are_waited_for_each_step() -> None:
    assert build(MeshConfig(), 16, 1).blocks_each_step
    assert not build(MeshConfig(devices=1), 16, 1).blocks_each_step


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

    x = jax.device_put(np.ones((16, 2, 4), np.float32), layout.rows((16, 2)))
    assert gathered(x).sharding.spec[0] == 'replica'
    assert jax.jit(lambda x: layout.constrain(x, 'MBT'))(
        np.ones((2, 8, 4), np.float32)
    ).sharding.spec[:2] == (None, 'replica')
