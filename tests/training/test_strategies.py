"""Every strategy on 8 emulated devices against one device, and what of the state lies where."""

import functools
from typing import Any

import pytest

from tests.training.numerics import OPTIMIZERS, assert_close, batches, program, steps

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
FAMILIES = ['gpt2', 'llama', 'bert', 't5']


@functools.cache
def plain(family: str, optimizer: str) -> Any:
    """One device, no microbatches."""
    made = program(family, 1, **OPTIMIZERS[optimizer])
    return steps(made, batches(made, STEPS))


CASES = [  # family, optimizer, microbatches, mesh
    *(
        (*case, mesh)
        for case in (
            ('gpt2', 'sgd', 1),
            ('llama', 'sgd', 2),
            ('bert', 'sgd', 1),
            ('t5', 'adamw', 2),
        )
        for mesh in MESHES
    ),
    *(('gpt2', 'adamw', 2, mesh) for mesh in ('zero1', 'zero2', 'zero3', 'zero3_explicit')),
]


@pytest.mark.parametrize(('family', 'optimizer', 'microbatches', 'mesh'), CASES)
def test_a_strategy_changes_no_number(
    family: str, optimizer: str, microbatches: int, mesh: str
) -> None:
    made = program(family, 8, microbatches, **OPTIMIZERS[optimizer], **MESHES[mesh])
    result, reference = steps(made, batches(made, STEPS)), plain(family, optimizer)
    assert_close(reference, result)
    for one, other in zip(result[1], reference[1], strict=True):
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
