"""The table of --describe: its bytes are those of the shards of a state that was really made."""

import re
from typing import Any

import jax
import pytest

from lm.training.state_parts import PARTS, bytes_words, state_parts
from lm.training.state_table import state_table
from lm.training.step import laid
from tests.training.test_state_bytes import held, made
from tests.training.test_strategies import MESHES

NUMBER = r'\d[\d,]*'


OFFLOAD = {'mesh.offload': 'optimizer'}


def row(lines: list[str], name: str) -> list[int]:
    """The numbers of bytes in a line of the table."""
    [line] = [line for line in lines if line.startswith(f'  {name} ')]
    words = line[len(name) + 2 :].split('  ')
    found = [word.strip() for word in words if re.fullmatch(NUMBER, word.strip())]
    return [int(number.replace(',', '')) for number in found][-3:]


def fullest(*arrays: Any) -> int:
    return max(held(arrays).values(), default=0)


@pytest.mark.parametrize('mesh', ['ddp', 'zero1', 'zero2', 'zero3', 'hybrid', 'zero3_tensor'])
@pytest.mark.parametrize('optimizer', ['adamw', 'sgd', 'adafactor', 'muon'])
def test_bytes_are_those_of_the_shards(mesh: str, optimizer: str) -> None:
    small = {'model.d_model': 32, 'model.d_ff': 64, 'optim.name': optimizer}
    program = made('llama', **{**small, **MESHES[mesh]})
    state, lines = program.init_state(), state_table(program)
    gradients = jax.jit(lambda params: laid(params, program.placement.gradients))(state.params)
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    kept = {
        path: [leaf for keys, leaf in leaves if f"'{path}'" in jax.tree_util.keystr(keys)]
        for path in state.params
    }
    for path in state.params:
        own = [state.params[path], gradients[path], kept[path]]
        assert row(lines, path) == [fullest(arrays) for arrays in own], path
    assert row(lines, 'a device holds') == [
        fullest(state.params), fullest(gradients), fullest(kept)
    ]  # fmt: skip
    counted = fullest(state.opt_state) - fullest(kept) + fullest(state.step)
    assert row(lines, 'counters') == [counted]
    assert f'  {fullest(state, gradients):,} in all' in lines[-1]


def test_the_split_in_words() -> None:
    lines = state_table(made('llama', **{**MESHES['zero3_tensor'], 'mesh.strategy': 'zero2'}))
    assert lines[0] == 'fsdp splits gradients and optimizer state only'
    said = {line.split()[0]: line.split('  ')[-1] for line in lines[2:-2]}
    assert said['decoder/layers/feed_forward/up'] == 'D over fsdp, F over tensor'
    assert said['decoder/layers/attention/output'] == 'H over tensor, D over fsdp'
    assert said['decoder/final_norm/scale'] == 'whole'
    assert list(said) == list(made('llama').functional.shapes)
    assert state_table(made('llama', **MESHES['zero3']))[0].startswith('  bytes a device')


def test_one_device_splits_nothing() -> None:
    lines = state_table(made('t5', **{'mesh.devices': 1}))
    assert lines[0].split() == ['bytes', 'a', 'device', 'dims', 'shape', *' '.join(PARTS).split()]
    assert not any('whole' in line or 'over' in line for line in lines)
    parts = state_parts(made('t5', **{'mesh.devices': 1}))
    assert parts.all.device_bytes == parts.all.whole_bytes


@pytest.mark.parametrize('family', ['gpt2', 'llama', 'bert', 't5'])
def test_lines_fit_a_terminal(family: str) -> None:
    lines = state_table(made(family, **MESHES['all']))
    assert max(map(len, lines)) <= 130
    assert len({line.index('optimizer state') for line in lines if 'bytes a device' in line}) == 1


def test_host_memory_is_counted_apart() -> None:
    plain = made('llama', **MESHES['zero1'])
    program = made('llama', **MESHES['zero1'], **OFFLOAD)
    parts, before, lines = state_parts(program), state_parts(plain), state_table(program)
    moved = before.of('optimizer state').device_bytes
    assert parts.of('optimizer state').device_bytes == 0
    assert parts.all.host_bytes == moved
    assert parts.all.device_bytes == before.all.device_bytes - moved
    assert parts.all.whole_bytes == before.all.whole_bytes
    assert row(lines, 'in host memory') == [0, 0, moved]
    assert row(lines, 'embedding/tokens') == row(state_table(plain), 'embedding/tokens')
    assert lines[1] == 'optimizer state is in host memory, but for the counters'
    assert 'host' not in '\n'.join(state_table(plain))
    alone = state_table(made('llama', **OFFLOAD, **{'mesh.devices': 1}))
    assert alone[0] == lines[1]


def test_bytes_in_words() -> None:
    sizes = [0, 512, 999, 16_384, 999_499, 999_500, 1_048_576, 9_395_240_960, 3 * 10**15]
    assert [bytes_words(size) for size in sizes] == [
        '0 B', '512 B', '999 B', '16.4 kB', '999 kB', '1 MB', '1.05 MB', '9.4 GB', '3e+03 TB'
    ]  # fmt: skip
