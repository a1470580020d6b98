"""Collectives read off a compiled program: known programs, and the steps of the strategies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from lm.planning.collectives import Collective, collectives
from tests.training.test_state_bytes import compiled, made
from tests.training.test_strategies import MESHES


def text(step: object, *arguments: jax.Array) -> str:
    return jax.jit(step).lower(*arguments).compile().as_text()


def test_a_loop_counts_as_often_as_it_runs() -> None:
    mesh = jax.make_mesh((4, 2), ('a', 'b'), (AxisType.Auto,) * 2)

    def local(x: jax.Array) -> jax.Array:
        def turn(y: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jax.lax.psum_scatter(
                jax.lax.all_gather(y, 'a', tiled=True), 'a', tiled=True
            ), None

        return jax.lax.scan(turn, x, None, length=5)[0] + jax.lax.psum(x, 'b')

    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=PartitionSpec('a'), out_specs=PartitionSpec('a'), check_vma=False
    )
    found = collectives(text(mapped, jnp.ones((16, 3))))
    assert sorted(found, key=lambda c: c.kind) == [
        Collective('all-gather', 48, 192, 4, 5),
        Collective('all-reduce', 12, 48, 2, 1),
        Collective('reduce-scatter', 48, 192, 4, 5),
    ]
    assert [c.moved for c in sorted(found, key=lambda c: c.kind)] == [240, 24, 240]


def test_what_begins_and_ends_apart_counts_once_and_without_its_operands() -> None:
    # As XLA:GPU of jax 0.10 writes them, several of a kind in one; the last as that of 0.12.
    program = """
ENTRY %main (a: bf16[32,64], b: f32[256,8]) -> bf16[256,64] {
  %gather = ((bf16[32,64]{1,0}, bf16[2]{0}), (bf16[256,64]{1,0}, bf16[16]{0})) all-gather-start(%a, %c), replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0'}
  %gathered = (bf16[256,64]{1,0}, bf16[16]{0}) all-gather-done(%gather)
  %scatter = ((f32[256,8]{1,0}), f32[32,8]{1,0}) reduce-scatter-start(%b), replica_groups=[1,8]<=[8]
  %scattered = f32[32,8]{1,0} reduce-scatter-done(%scatter)
  %reduce = f32[10]{0} all-reduce-start(%d), replica_groups=[1,8]<=[8], to_apply=%add
  %reduced = f32[10]{0} all-reduce-done(%reduce)
  %newer = ((f32[10]{0}), f32[10]{0}) all-reduce-start(%d), replica_groups=mesh['x'=8] {'x'}, to_apply=%add
  %newly = f32[10]{0} all-reduce-done(%newer)
}
"""  # noqa: E501
    assert collectives(program) == [
        Collective('all-gather', 256 * 64 + 16, 2 * (256 * 64 + 16), 8, 1),
        Collective('reduce-scatter', 256 * 8, 4 * 256 * 8, 8, 1),
        *[Collective('all-reduce', 10, 40, 8, 1)] * 2,
    ]


def test_a_group_of_one_moves_nothing() -> None:
    assert Collective('all-reduce', 10, 40, 1, 3).moved == 0


@pytest.mark.parametrize(
    ('mesh', 'times_of_parameters', 'kinds'),
    [
        ('ddp', 2, {'all-reduce': 2}),
        ('zero1', 3, {'all-reduce': 2, 'all-gather': 1}),
        ('zero2_explicit', 2, {'reduce-scatter': 1, 'all-gather': 1}),
        ('zero3_explicit', 3, {'all-gather': 2, 'reduce-scatter': 1}),
        # GSPMD on CPU has an all-reduce where others have a reduce-scatter: once more.
        ('zero2', 3, {'all-reduce': 2, 'all-gather': 1}),
        ('zero3', 4, {'all-reduce': 2, 'all-gather': 2}),
    ],
)
def test_what_a_step_moves(mesh: str, times_of_parameters: int, kinds: dict[str, int]) -> None:
    program = made('llama', **MESHES[mesh])
    total = sum(int(np.prod(x.shape)) for x in program.functional.shapes.values())
    moved: dict[str, float] = {}
    for one in collectives(compiled(program).as_text()):
        moved[one.kind] = moved.get(one.kind, 0) + one.moved / total
    print(mesh, {kind: round(times, 3) for kind, times in moved.items()})
    assert sum(moved.values()) == pytest.approx(times_of_parameters, rel=0.1)
    for kind, times in kinds.items():
        assert moved[kind] == pytest.approx(times, rel=0.1)


def test_how_many_the_explicit_step_has() -> None:
    # A llama layer has seven matrices, and there are the embedding and the head: each is gathered
    # where it is used, the layers' once more in the backward pass, and its gradient scattered.
    program = made('llama', **MESHES['zero3_explicit'])
    kinds = [c.kind for c in collectives(compiled(program).as_text()) if c.group != 1]
    assert kinds.count('reduce-scatter') == 7 + 2
    assert kinds.count('all-gather') == 2 * 7 + 2
