"""Where devices stand in the mesh, with a slow network between slices; which rows they read."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

from lm.batch import Batch
from lm.config import MeshConfig
from lm.errors import UserError
from lm.mesh.axes import AXES
from lm.mesh.held_rows import held_rows
from lm.mesh.mesh import build
from lm.mesh.network import device_grid


@dataclass(frozen=True)
class Device:
    """What the mesh is made from, of a device that is not there."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = 'gpu'
    device_kind: str = 'a fast one'


def cluster(slices: int, each: int) -> list[Any]:
    """Devices of all slices, in an order that mixes them."""
    return [Device(i, i % slices) for i in range(slices * each)]


def sizes(*axes: int) -> dict[str, int]:
    return dict(zip(AXES, axes, strict=True))


def slices_along(grid: np.ndarray, axis: str) -> set[int]:
    """How many slices each line of devices along an axis passes through."""
    slice_of = np.vectorize(lambda device: device.slice_index)(grid)
    lines = np.moveaxis(slice_of, AXES.index(axis), -1).reshape(-1, grid.shape[AXES.index(axis)])
    return {len(set(line)) for line in lines.tolist()}


@pytest.mark.parametrize(
    ('axes', 'crossing'),
    [
        ((4, 4, 1, 1), {'replica': 4}),
        ((8, 1, 2, 1), {'replica': 4}),
        ((2, 4, 2, 1), {'replica': 2, 'fsdp': 2}),
        ((1, 8, 1, 2), {'fsdp': 4}),
    ],
)
def test_the_axis_with_the_least_traffic_crosses_slices(
    axes: tuple[int, ...], crossing: dict[str, int]
) -> None:
    devices = cluster(slices=4, each=4)
    grid = device_grid(sizes(*axes), devices)
    assert grid.shape == axes
    assert set(grid.flat) == set(devices)
    assert {axis: slices_along(grid, axis) for axis in AXES} == {
        axis: {crossing.get(axis, 1)} for axis in AXES
    }


def test_slices_that_no_axis_can_cross() -> None:
    with pytest.raises(UserError, match=r'mesh.replica=1, mesh.fsdp=2: cannot be laid over 4'):
        device_grid(sizes(1, 2, 8, 1), cluster(slices=4, each=4))
    with pytest.raises(UserError, match=r'over 2 slices of 2, 4 devices'):
        device_grid(sizes(2, 3, 1, 1), [Device(i, int(i > 3)) for i in range(6)])


def test_devices_of_one_network_stay_in_their_order() -> None:
    grid = device_grid(sizes(2, 4, 1, 1), jax.devices())
    assert grid.ravel().tolist() == jax.devices()


def test_every_row_is_counted_in_one_process() -> None:
    def device(number: int, process: int) -> Device:
        return Device(number, 0, process)

    whole, first, second = slice(None), slice(0, 2), slice(2, 4)
    halves = {device(0, 0): (first, whole), device(1, 1): (second, whole)}
    both = {device(0, 0): (whole, whole), device(1, 1): None}
    crossed = {device(0, 1): (first, whole), device(1, 0): (second, whole), device(2, 1): None}
    seen = {
        name: [
            (held.numbers, held.first_here.tolist())
            for held in (held_rows(parts, 4, process) for process in range(2))
        ]
        for name, parts in {'halves': halves, 'both': both, 'crossed': crossed}.items()
    }
    no, yes = [False] * 4, [True] * 4
    assert seen['halves'] == [((0, 1), yes[:2]), ((2, 3), yes[:2])]
    assert seen['both'] == [((0, 1, 2, 3), yes), ((0, 1, 2, 3), no)]
    assert seen['crossed'] == [((2, 3), yes[:2]), ((0, 1, 2, 3), [True, True, False, False])]


def test_a_mesh_that_leaves_a_process_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lm.mesh.mesh.processes.count', lambda: 2)
    with pytest.raises(UserError, match=r'mesh.devices=4: leaves a process without a device'):
        build(MeshConfig(devices=4), 8, 1)


def test_rows_of_several_processes_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = build(MeshConfig(), 8, 1)
    held = layout.held_rows(8)
    tokens = np.arange(8 * 3, dtype=np.int32).reshape(8, 3)
    monkeypatch.setattr('lm.mesh.mesh.processes.count', lambda: 2)
    placed = layout.place(Batch(tokens, tokens, tokens), held)
    assert placed.tokens.sharding == layout.rows((8, 3))
    np.testing.assert_array_equal(np.asarray(placed.tokens), tokens)
