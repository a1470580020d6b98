"""Bytes of state: the ZeRO paper's, those of the arrays, and those of every optimizer."""

import csv
import math
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax
import pytest

from lm import registry
from lm.errors import UserError
from lm.mesh.rules import Rules
from lm.models.functional import functional
from lm.named_configs import load_config
from lm.optim.optimizers import sgd
from lm.planning.activations import Work
from lm.planning.axes import Axes, lay_out
from lm.planning.memory import (
    STRATEGIES,
    Memory,
    Strategy,
    held,
    host_bytes_while_saving,
    state_memory,
    step_memory,
)
from lm.planning.parameters import model_shape
from lm.planning.recipes import RECIPES, find_recipe, recipe_of
from lm.planning.rows import side_lengths
from lm.planning.textbook import rows_that_fill, zero_bytes
from lm.precision.policy import POLICIES
from tests.models.tiny import tiny

REPO = Path(__file__).parent.parent.parent

PRINTED: list[tuple[float, int, str, str, str]] = [
    # Rajbhandari et al. 2020 (arXiv 1910.02054), table 1: parameters, devices, GB a device under
    # Pos, Pos+g, Pos+g+p.
    (7.5e9, 1, '120', '120', '120'),
    (7.5e9, 64, '31.4', '16.6', '1.88'),
    (7.5e9, 1024, '30.1', '15.1', '0.12'),
    (128e9, 16, '608', '368', '128'),
    (128e9, 1024, '513', '257', '2'),
    (1e12, 1024, '4011', '2013', '15.6'),
]


def assert_as_printed(params: float, devices: int, strategy: Strategy, printed: str) -> None:
    got = zero_bytes(params, devices, strategy) / 1e9
    unit = 10.0 ** int(Decimal(printed).as_tuple().exponent)
    assert abs(got - float(printed)) <= max(0.005 * float(printed), unit), (params, devices)


@pytest.mark.parametrize(('params', 'devices', 'pos', 'posg', 'posgp'), PRINTED)
def test_zero_paper(params: float, devices: int, pos: str, posg: str, posgp: str) -> None:
    assert_as_printed(params, devices, 'zero1', pos)
    assert_as_printed(params, devices, 'zero2', posg)
    assert_as_printed(params, devices, 'zero3', posgp)
    assert zero_bytes(params, devices, 'ddp') == 16 * params


def test_zero_paper_of_the_shared_table() -> None:
    shared = Path(os.environ.get('LM_SHARED', REPO.parent / 'shared'))
    table = shared / 'scaling' / 'zero_table1_7p5B_128B.csv'
    if not table.is_file():
        pytest.skip(f'no {table.name}; LM_SHARED names the folder that holds it')
    columns: dict[Strategy, str] = {'zero1': 'pos', 'zero2': 'posg', 'zero3': 'posgp'}
    for row in csv.DictReader(line for line in table.open() if not line.startswith('#')):
        for strategy, column in columns.items():
            params = float(row['psi_billion']) * 1e9
            assert_as_printed(params, int(row['dp']), strategy, row[column])


def test_bytes_a_parameter() -> None:
    totals = {name: recipe.total for name, recipe in RECIPES.items()}
    assert totals == {
        'fp32_adam': 16,
        'bf16_mixed': 18,  # 4 + 4 + 8, and a transient copy of 2
        'mixed_adam': 16,
        'textbook': 24,
        'often_quoted': 80,
    }
    with pytest.raises(UserError, match='did you mean mixed_adam'):
        find_recipe('mixedadam')


def test_eighty_bytes_hold_at_a_batch_of_a_few_rows() -> None:
    # By hand, GPT-3 1.3B in fp32: a layer keeps 4 D + 4 D + 2 x 4 D numbers and 2 H T a token.
    layers, width, heads, row = 24, 2048, 16, 2048
    a_row = 4 * row * (layers * (16 * width + 2 * heads * row) + 2 * 50_304)
    params = 12 * layers * width**2 + (50_257 + row) * width
    assert rows_that_fill('1B') == pytest.approx(64 * params / a_row, rel=0.02)


@pytest.mark.parametrize('family', ['bert', 'llama', 't5'])
@pytest.mark.parametrize('name', registry.names('optimizers'))
def test_optimizer_state_is_that_of_the_optimizer(name: str, family: str) -> None:
    changes: list[dict[str, Any]] = [{}]
    if name == 'sgd':
        changes.append({'optim.options.momentum': 0.9})
    for change in changes:
        config = load_config(f'{family}_tiny', **{'optim.name': name, **change})
        model, recipe = functional(config.model, POLICIES['fp32']), recipe_of(config)
        member = registry.lookup('optimizers', name, 'optim.name')
        optimizer = member.build(config.optim, lambda step: 1e-3, model.dims)
        leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(optimizer.init, model.shapes))
        kept = sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize
            for keys, leaf in leaves
            if any(getattr(key, 'key', None) in model.dims for key in keys)
        )
        shape, work = (
            model_shape(config.model),
            Work(1, side_lengths(config, model.family), Axes(1, 1), 4),
        )
        for strategy in STRATEGIES:
            planned = step_memory(shape, work, recipe, strategy, 'none', 1)
            assert planned.optimizer == kept
        arrays = held(shape, Axes(1, 1))
        assert recipe.optimizer * arrays.whole == pytest.approx(kept, rel=1e-12)


def test_adafactor_of_a_real_size_keeps_next_to_nothing() -> None:
    recipe = recipe_of(load_config('llama_7b', **{'optim.name': 'adafactor'}))
    assert recipe.optimizer == pytest.approx(0.00168, rel=0.01)


def test_an_optimizer_that_does_not_tell_what_it_keeps_needs_a_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(sgd, 'kept')
    with pytest.raises(UserError, match='optim.name=sgd: its state is not known .* give a recipe'):
        recipe_of(load_config('llama_tiny', **{'optim.name': 'sgd'}))


def test_each_array_is_split_where_it_divides() -> None:
    shape = model_shape(tiny('llama').config)  # d_model 16, 6 heads in 3 groups, d_ff 20
    sizes = {path: math.prod(array.shape) for path, array in shape.shapes.items()}
    every = sum(sizes.values())
    matrices = sum(n for path, n in sizes.items() if not path.endswith('/scale'))
    assert held(shape, Axes(1, 1)).whole == every
    by_eight = held(shape, Axes(1, 8))  # 16 divides, and every matrix has it
    assert (by_eight.whole, by_eight.split) == (every, every - matrices * 7 / 8)
    assert held(shape, Axes(1, 7)).split == every
    # 5 divides d_ff and the padded vocabulary of 40 rows.
    fives = sum(n for path, n in sizes.items() if {*'FV'} & {*shape.dims[path]})
    assert held(shape, Axes(1, 5)).split == every - fives * 4 / 5
    # Over tensor, `D` is left to fsdp.
    assert held(shape, Axes(1, 1, tensor=2)).whole < every
    assert held(shape, Axes(1, 20, tensor=2)).split == held(shape, Axes(1, 1, tensor=2)).whole


def test_a_hybrid_splits_over_fsdp_only() -> None:
    shape = model_shape(tiny('gpt2').config)
    recipe = RECIPES['fp32_adam']
    hybrid, four = Axes(2, 4), Axes(1, 4)
    for strategy in STRATEGIES:
        assert state_memory(held(shape, hybrid), recipe, strategy) == state_memory(
            held(shape, four), recipe, strategy
        )


def test_a_host_copies_what_its_devices_hold() -> None:
    whole = Memory(parameters=400, gradients=400, optimizer=800)
    split = Memory(parameters=25, gradients=25, optimizer=50)
    assert host_bytes_while_saving(whole, 'ddp', Axes(1, 16), per_host=8) == 1200
    assert host_bytes_while_saving(split, 'zero3', Axes(1, 16), per_host=8) == 8 * 75
    one = Memory(parameters=400, gradients=400, optimizer=50)
    assert host_bytes_while_saving(one, 'zero1', Axes(1, 16), per_host=8) == 400 + 8 * 50


def test_axes() -> None:
    assert lay_out(8) == Axes(1, 8)
    assert lay_out(8, tensor=2) == Axes(1, 4, 2)
    assert lay_out(8, replica=2) == Axes(2, 4)
    assert lay_out(8, fsdp=2, seq=2) == Axes(2, 2, 1, 2)
    assert lay_out(1, fsdp=1) == Axes(1, 1)
    assert lay_out(8, tensor=8) == Axes(1, 1, 8)


@pytest.mark.parametrize('name', ['bert', 'gpt2', 'llama', 't5'])
@pytest.mark.parametrize('tensor', [1, 3])
@pytest.mark.parametrize('fsdp', [1, 2, 5, 8])
def test_what_a_device_holds_is_what_the_mesh_gives_it(name: str, tensor: int, fsdp: int) -> None:
    sizes = {'replica': 1, 'fsdp': fsdp, 'tensor': tensor, 'seq': 1}
    built, rules = tiny(name, vocab_multiple=24), Rules(sizes)

    def entries(path: str, spec: Any) -> int:
        shape = built.shapes[path].shape
        return math.prod(shape) // math.prod(sizes[axis] for axis in spec if axis)

    shapes = {path: x.shape for path, x in built.shapes.items()}
    planned = held(model_shape(built.config), Axes(**sizes))
    for of, rule in ((planned.whole, rules.compute), (planned.split, rules.split)):
        assert of == sum(entries(p, rule(built.dims[p], shape)) for p, shape in shapes.items())
