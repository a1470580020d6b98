"""Every strategy on 8 emulated devices against one device, and what of the state lies where."""

import functools
import math
from typing import Any

import jax
import numpy as np
import pytest

from lm import registry
from lm.mesh.host_offload import is_in_host_memory
from lm.optim.optimizers.muon import turns
from lm.planning.collectives import collectives
from tests.crossed import crossed
from tests.training.numerics import (
    ADAMW,
    OPTIMIZERS,
    SGD,
    assert_close,
    batches,
    compiled,
    initial,
    is_rounding,
    program,
    steps,
)

STEPS = 10
MESHES: dict[str, dict[str, Any]] = {
    'ddp': {'mesh.strategy': 'ddp'},
    'zero1': {'mesh.strategy': 'zero1'},
    'zero2': {'mesh.strategy': 'zero2'},
    'zero3': {'mesh.strategy': 'zero3'},
    'hybrid': {'mesh.strategy': 'zero3', 'mesh.replica': 2, 'mesh.fsdp': 4},
    'zero3_tensor': {'mesh.strategy': 'zero3', 'mesh.tensor': 2},
    'zero3_seq': {'mesh.strategy': 'zero3', 'mesh.seq': 2},
    'zero2_explicit': {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'},
    'zero3_explicit': {'mesh.strategy': 'zero3', 'mesh.collectives': 'explicit'},
    'hybrid_explicit': {
        'mesh.strategy': 'zero3',
        'mesh.replica': 2,
        'mesh.collectives': 'explicit',
    },
    'ring': {'mesh.strategy': 'zero3', 'mesh.seq': 4, 'mesh.context': 'ring'},
    'ring_tensor': {
        'mesh.strategy': 'zero3',
        'mesh.seq': 2,
        'mesh.tensor': 2,
        'mesh.context': 'ring',
    },
    'all': {'mesh.strategy': 'zero3', 'mesh.fsdp': 2, 'mesh.tensor': 2, 'mesh.seq': 2},
}
OFFLOADS: dict[str, dict[str, Any]] = {
    'offload': {'mesh.strategy': 'zero1', 'mesh.offload': 'optimizer'},
    'offload_all': {
        'mesh.strategy': 'zero3',
        'mesh.tensor': 2,
        'mesh.offload': 'optimizer',
        'model.remat': 'offload',
    },
    'offload_ring': {
        'mesh.strategy': 'zero2',
        'mesh.seq': 2,
        'mesh.context': 'ring',
        'mesh.offload': 'optimizer',
        'model.remat': 'offload',
        'model.scan_layers': False,
    },
}
FAMILIES = ['gpt2', 'llama', 'bert', 't5']
WITH_ALIBI = ('zero3_tensor', 'zero3_seq', 'zero3_explicit', 'ring_tensor')


@functools.cache
def plain(family: str, optimizer: str) -> Any:
    """One device, no microbatches."""
    made = program(family, 1, **OPTIMIZERS[optimizer])
    return steps(made, batches(made, STEPS))


CASES = [
    *crossed(
        [
            ('gpt2', 'sgd_by_leaf', 1),
            ('llama', 'sgd_by_leaf', 2),
            ('bert', 'sgd_by_leaf', 1),
            ('t5', 'adamw', 2),
        ],
        [*MESHES],
        every=2,
    ),
    *crossed(
        [
            # Lion takes the sign of a key bias's gradient, which is rounding alone: LLaMA has none.
            # All else is equal to the bit, unless one of some 1e5 sums comes within rounding of 0.
            ('llama' if optimizer == 'lion' else 'gpt2', optimizer, 2)
            for optimizer in registry.names('optimizers')
        ],
        ['zero1', 'zero2', 'zero3', 'zero3_explicit'],
        every=2,
    ),
    # Where `tensor` splits Muon's matrices too, and where a stack is of gates within layers.
    pytest.param('llama', 'muon', 1, 'zero3_tensor'),
    pytest.param('lstm', 'muon', 1, 'zero2'),
    *(pytest.param('bloom', 'sgd_by_leaf', 1, mesh) for mesh in WITH_ALIBI),
    *(pytest.param(family, 'sgd_by_leaf', 1, 'all') for family in ('gpt_neox', 'bart')),
    *(pytest.param('modernbert', 'sgd_by_leaf', 1, mesh) for mesh in ('all', 'ring_tensor')),
    *crossed(
        [('lstm', 'sgd_by_leaf', 1), ('gru', 'sgd_by_leaf', 1)],
        ['zero1', 'zero2', 'zero3', 'zero3_explicit'],
        every=2,
    ),
    *(
        pytest.param('lstm_seq2seq', optimizer, 1, mesh)
        for optimizer in ('sgd_by_leaf', 'muon')
        for mesh in ('zero3', 'zero3_explicit')
    ),
    # The other optimizer of each: five minutes more.
    *(
        pytest.param(family, optimizer, microbatches, mesh, marks=pytest.mark.slow)
        for family, optimizer, microbatches in (
            ('gpt2', 'adamw', 2),
            ('llama', 'adamw', 2),
            ('bert', 'adamw', 2),
            ('t5', 'sgd_by_leaf', 1),
        )
        for mesh in MESHES
    ),
]


@pytest.mark.parametrize(('family', 'optimizer', 'microbatches', 'mesh'), CASES)
def test_a_strategy_changes_no_number(
    family: str, optimizer: str, microbatches: int, mesh: str
) -> None:
    made = program(family, 8, microbatches, **OPTIMIZERS[optimizer], **MESHES[mesh])
    result, reference = steps(made, batches(made, STEPS)), plain(family, optimizer)
    assert_close(reference, result, family)
    for one, other in zip(result[1], reference[1], strict=True):
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)


@pytest.mark.parametrize('family', ['lstm', 'gru', 'lstm_seq2seq'])
def test_a_recurrence_sums_its_gradients_once_a_step(family: str) -> None:
    made = program(family, 8, 1, **OPTIMIZERS['sgd_by_leaf'], **MESHES['zero2'])
    found = collectives(compiled(made).as_text())
    sizes = {path: math.prod(x.shape) for path, x in made.functional.shapes.items()}
    # Two sides look up rows of one table, whose gradient is summed for each.
    numbers = sum(sizes.values()) + family.endswith('seq2seq') * sizes['embedding/tokens']
    # An all-reduce moves each number twice; within the loop over 16 positions, 32 times.
    assert sum(one.moved for one in found if one.kind == 'all-reduce') < 2.1 * numbers


def test_muon_brings_each_matrix_together_once_a_step() -> None:
    changes = {'model.num_layers': 8, 'model.scan_layers': True}
    made = program('llama', 8, 1, **OPTIMIZERS['muon'], **MESHES['zero2'], **changes)
    numbers = {path: math.prod(shape.shape) for path, shape in made.functional.shapes.items()}
    found = collectives(compiled(made).as_text())
    # As of AdamW: gradients are summed, which moves them twice, and parameters gathered.
    usual = sum(one.moved for one in found if one.kind != 'all-to-all')
    assert usual < 3.05 * sum(numbers.values())
    # Each of 8 devices gets one of 8 layers and gives it back.
    turned = sum(n for path, n in numbers.items() if turns(made.functional.dims[path]))
    assert sum(one.moved for one in found if one.kind == 'all-to-all') == 2 * turned / 8
    assert turned > 0.5 * sum(numbers.values())


@functools.cache
def two_layers(family: str) -> Any:
    """One device."""
    made = program(family, 1, **ADAMW, **{'model.num_layers': 2})
    return steps(made, batches(made, STEPS))


@pytest.mark.parametrize(('family', 'mesh'), crossed(FAMILIES, [*OFFLOADS], every=3))
def test_offload_changes_no_number(family: str, mesh: str) -> None:
    made = program(family, 8, 2, **ADAMW, **{'model.num_layers': 2}, **OFFLOADS[mesh])
    off = [x for x in jax.tree.leaves(made.abstract_state.opt_state) if is_in_host_memory(x)]
    assert len(off) == 2 * len(made.functional.shapes)
    assert_close(two_layers(family), steps(made, batches(made, STEPS)), family)


@pytest.mark.parametrize(
    'family', [*FAMILIES, 'bloom', 'gpt_neox', 'bart', 'modernbert', 'lstm', 'gru', 'lstm_seq2seq']
)
def test_gradients_alone_move_every_leaf_by_a_hundredth(family: str) -> None:
    # Otherwise equality of parameters would say little of their gradients.
    before = initial(family, 'sgd_by_leaf').params
    for path, after in plain(family, 'sgd_by_leaf')[0].params.items():
        if not is_rounding(path, family):
            moved = np.sqrt(np.mean(np.square(after - before[path])))
            assert moved > 0.01 * np.sqrt(np.mean(np.square(before[path]))), path


@pytest.mark.parametrize('mesh', ['zero3_seq', 'ring', 'zero3_explicit'])
def test_a_prefix_is_the_same_on_every_mesh(mesh: str) -> None:
    given = {**SGD, 'objective.name': 'prefix_lm'}
    one = program('llama', 1, **given)
    many = program('llama', 8, 2, **given, **MESHES[mesh])
    made = batches(one, 2)
    assert all(np.asarray(batch.prefix).sum() > 8 for batch in made)
    reference, result = steps(one, made), steps(many, made)
    assert_close(reference, result)
