"""Policies in a training step: what state is held in, what meshes change, scales and roundings."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lm import UserError
from lm.models.context import Context
from lm.planning.counts import count_parameters
from lm.planning.recipes import recipe_of
from lm.precision.loss_scale import LossScale, Scaling
from lm.precision.policy import POLICIES
from lm.precision.quantization import ROWS
from lm.shapes import is_matrix
from lm.training.banner import banner, fallbacks, state_dtypes
from lm.training.program import Program
from lm.training.step import Metrics, State, advanced, build_taking
from lm.training.update import Taking, taken
from tests.precision.test_policy import operands
from tests.training.numerics import ADAMW, SGD, batches, compiled, initial, program
from tests.training.runs import Runs, read_rows

NARROW = sorted({*POLICIES} - {'fp32', 'tf32'})
EIGHT_BITS = ('int8_qat', 'int8_weight_only', 'fp8')
FIXED = {'precision.loss_scaling': 'fixed'}


def policy(name: str, **more: Any) -> dict[str, Any]:
    return {'precision.policy': name, **more}


def begun(made: Program) -> State:
    """The state with noise on every parameter, as `initial` has it, in the policy's dtype.

    Of an optimizer whose state begins with zeros.
    """
    like = made.abstract_state
    start = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    noisy = initial(made.config.model.name, 'adamw').params
    params = {path: noisy[path].astype(x.dtype) for path, x in like.params.items()}
    scale = None if made.scaling is None else made.scaling.start()
    start = start._replace(params=params, loss_scale=scale)
    return jax.device_put(start, jax.tree.map(lambda x: x.sharding, like))


def after(
    made: Program, data: list[Any], state: State | None = None
) -> tuple[State, list[Metrics]]:
    """The state after a step on each batch, and what each told."""
    state, told = state or begun(made), []
    for batch in data:
        state, packed = compiled(made)(state, made.layout.place(batch))
        jax.block_until_ready(state)
        told.append(Metrics.unpacked(packed))
    return jax.device_get(state), told


@pytest.mark.parametrize('name', POLICIES)
def test_what_is_told_of_dtypes_is_what_is_held(name: str) -> None:
    made = program('llama', 1, **ADAMW, **policy(name))
    state, _ = after(made, batches(made, 1))
    told, it = state_dtypes(made), POLICIES[name]
    held = {x.dtype.name for x in state.params.values()}
    moments = {x.dtype.name for x in jax.tree.leaves(state.opt_state) if x.ndim}
    assert {told['params']} == held == {it.param_dtype}
    assert {told['opt_state']} == moments == {it.param_dtype}
    assert told['gradients'] == it.param_dtype and told['compute'] == it.compute_dtype
    assert it.name in banner(made, count_parameters(made.functional))


@pytest.mark.parametrize('optimizer', ['adamw', 'adafactor', 'muon', 'lion', 'sgd'])
@pytest.mark.parametrize('name', ['fp32', 'bf16_pure', 'fp16_mixed'])
def test_bytes_a_parameter_are_those_planned(name: str, optimizer: str) -> None:
    settings = {'optim.name': optimizer, 'model.vocab_multiple': 16}
    made = program('llama', 1, **settings, **policy(name))
    state, recipe = made.abstract_state, recipe_of(made.config)
    entries = sum(int(np.prod(x.shape)) for x in state.params.values())

    def held(tree: Any) -> int:
        leaves = [x for path, x in jax.tree_util.tree_leaves_with_path(tree) if x.ndim
                  and 'ns_coeffs' not in jax.tree_util.keystr(path)]  # fmt: skip
        return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in leaves)

    assert held(state.params) == recipe.weights * entries
    assert held(state.opt_state) == pytest.approx(recipe.optimizer * entries, rel=1e-9)


@pytest.mark.parametrize(
    ('name', 'mesh'),
    [
        *[(name, {'mesh.strategy': 'zero3', 'mesh.tensor': 2}) for name in NARROW],
        ('int8_qat', {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'}),
        ('fp8', {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'}),
        ('fp16_mixed', {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'}),
        ('fp16_mixed', {'mesh.strategy': 'zero1', 'mesh.offload': 'optimizer'}),
        ('bf16_pure', {'mesh.strategy': 'zero1', 'mesh.offload': 'optimizer'}),
        ('int8_qat', {'mesh.strategy': 'zero3', 'mesh.seq': 2, 'mesh.context': 'ring'}),
    ],
    ids=lambda value: value if isinstance(value, str) else '-'.join(map(str, value.values())),
)
def test_a_mesh_changes_no_more_than_rounding(name: str, mesh: dict[str, Any]) -> None:
    """Sums of bf16 and fp8 depend on their order by much more than fp32's.

    So parameters are compared by where all of them together moved in four steps: not at all, in
    another direction or half as far would be seen.
    """
    rate = {**ADAMW, 'optim.peak_lr': 0.01}
    one = program('llama', 1, **rate, **policy(name))
    eight = program('llama', 8, **rate, **policy(name), **mesh)
    data = batches(one, 4)
    before = {path: np.asarray(x, np.float32) for path, x in begun(one).params.items()}
    ends, told = zip(*(after(made, data) for made in (one, eight)), strict=True)
    for a, b in zip(*told, strict=True):
        assert a.targets == b.targets
        assert a.loss == pytest.approx(b.loss, rel=5e-3)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=0.05)
    ways = [
        np.concatenate(
            [(np.asarray(x, np.float32) - before[p]).ravel() for p, x in end.params.items()]
        )
        for end in ends
    ]
    lengths = [np.linalg.norm(way) for way in ways]
    assert ways[0] @ ways[1] / (lengths[0] * lengths[1]) > 0.95
    assert lengths[0] == pytest.approx(lengths[1], rel=0.02)
    assert lengths[0] > 0.1 * np.sqrt(sum(np.sum(x**2) for x in before.values()))


@pytest.mark.parametrize('family', ['llama', 'bert', 't5'])
@pytest.mark.parametrize('name', EIGHT_BITS)
def test_eight_bits_are_in_the_step_of_every_family(name: str, family: str) -> None:
    made = program(family, 1, **ADAMW, **policy(name))
    [batch] = batches(made, 1)
    found = operands(made.step.lower(made.abstract_state, batch))
    inner = {'int8_qat': {'i8'}, 'fp8': {'f8E4M3FN', 'f8E5M2'}, 'int8_weight_only': set()}[name]
    assert {kind for pair in found for kind in pair if '8' in kind} == inner
    # Matrices of the layers, stacked, and of BERT's head before its output.
    weights = sum(
        is_matrix(dims) and not {*ROWS} & {*dims} for dims in made.functional.dims.values()
    )
    small = [pair for pair in found if '8' in pair[0] + pair[1]]
    products = {'int8_qat': 1, 'fp8': 3, 'int8_weight_only': 0}[name]
    assert len(small) == products * weights and weights >= 6


@pytest.mark.parametrize('name', ['fp32', 'bf16_mixed'])
def test_a_scale_that_is_a_power_of_two_changes_no_bit(name: str) -> None:
    """Both dtypes have eight bits of exponent, so that here nothing over- or underflows."""
    plain = program('llama', 1, **ADAMW, **policy(name))
    data = batches(plain, 3)
    state, told = after(plain, data)
    for scale in (2.0**20, 2.0**-10):
        scaled = program(
            'llama', 1, **ADAMW, **policy(name, **FIXED), **{'precision.loss_scale': scale}
        )
        other, others = after(scaled, data)
        for path, x in state.params.items():
            np.testing.assert_array_equal(x, other.params[path], err_msg=path)
        assert [m[:4] for m in told] == [m[:4] for m in others]
        assert others[-1].scaled == (scale, 0, 0)


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    first = {'precision.loss_scale': 2.0**40}
    made = program('llama', 1, 4, **ADAMW, **policy('fp16_mixed'), **first)
    data = batches(made, 1) * 30
    start = begun(made)
    before = jax.device_get((start.params, start.opt_state))
    [batch, *_] = data
    state, packed = compiled(made)(start, made.layout.place(batch))
    metrics = Metrics.unpacked(packed)
    assert metrics.skipped and not np.isfinite(metrics.grad_norm)
    jax.tree.map(
        np.testing.assert_array_equal, before, jax.device_get((state.params, state.opt_state))
    )
    assert (float(state.loss_scale.scale), int(state.step)) == (2.0**39, 1)
    state, told = after(made, data, state)
    skipped = int(told[-1].scaled.skipped)
    assert 3 < skipped < 30 and not told[-1].skipped
    assert float(state.loss_scale.scale) == 2.0 ** (40 - skipped)
    assert sum(m.skipped for m in told) == skipped - 1
    # The schedule and Adam's counters wait for the first update.
    assert int(state.opt_state[0].count) == 31 - skipped
    assert told[-1].loss < told[0].loss


@pytest.mark.parametrize('mesh', [{'mesh.offload': 'optimizer'}, {'mesh.collectives': 'explicit'}])
def test_a_skipped_step_changes_nothing_on_meshes(mesh: dict[str, Any]) -> None:
    settings = {**ADAMW, **policy('fp16_mixed'), 'mesh.strategy': 'zero2', **mesh}
    made = program('llama', 8, **settings, **{'precision.loss_scale': 2.0**40})
    start = begun(made)
    before = jax.device_get((start.params, start.opt_state))
    state, [metrics] = after(made, batches(made, 1), start)
    assert metrics.skipped
    jax.tree.map(np.testing.assert_array_equal, before, (state.params, state.opt_state))


def test_stochastic_rounding_moves_what_nearest_leaves() -> None:
    """A rate of 1e-5 moves a weight of 0.1 by a fortieth of bf16's step there."""
    rate = {**ADAMW, 'optim.peak_lr': 1e-5, 'optim.weight_decay': 0.0}
    kept, data = {}, None
    for chance in (False, True):
        made = program('llama', 1, **rate, **policy('bf16_pure'),
                       **{'precision.stochastic_rounding': chance})  # fmt: skip
        data = data or batches(made, 1) * 40
        start = begun(made)
        before = {p: np.asarray(x, np.float32) for p, x in start.params.items()}
        state, _ = after(made, data, start)
        moved = {p: np.asarray(x, np.float32) - before[p] for p, x in state.params.items()}
        kept[chance] = np.concatenate([m.ravel() for m in moved.values()])
    exact = program('llama', 1, **rate)
    start = begun(exact)
    before = jax.device_get(start.params)
    state, _ = after(exact, data, start)
    true = np.concatenate([(x - before[p]).ravel() for p, x in state.params.items()])
    along = {chance: float(move @ true / (true @ true)) for chance, move in kept.items()}
    assert along[True] == pytest.approx(1, abs=0.25)
    assert along[False] < 0.5 * along[True]


def test_a_run_resumes_with_its_scale(runs: Runs, tmp_path: Path) -> None:
    settings = {
        'precision__policy': 'fp16_mixed', 'precision__loss_scale': 2.0**34,
        'precision__loss_scale_growth_steps': 6,
    }  # fmt: skip
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    summary = runs.train('llama', straight, train__steps=24, **settings)
    runs.train('llama', resumed, train__steps=16, **settings)
    again = runs.train('llama', resumed, train__steps=24, **settings)
    assert summary['skipped_steps'] > 0 and summary['params_sha256'] == again['params_sha256']
    rows = read_rows(straight / 'metrics.jsonl')
    told = [
        (r['step'], r['loss'], r['grad_norm'], r['loss_scale'], r['skipped_steps']) for r in rows
    ]
    others = read_rows(resumed / 'metrics.jsonl')
    assert told == [
        (r['step'], r['loss'], r['grad_norm'], r['loss_scale'], r['skipped_steps']) for r in others
    ]
    assert {r['loss_scale'] for r in rows} > {summary['loss_scale']}  # it moved on the way
    overflowed = [r for r in rows if r['grad_norm'] is None]
    assert overflowed and summary['final_loss'] is not None
    json.loads((straight / 'summary.json').read_text(), parse_constant=pytest.fail)


def test_a_fixed_scale_that_overflows_ends_the_run_and_says_what_helps(
    runs: Runs, tmp_path: Path
) -> None:
    settings = {'precision__policy': 'fp16_mixed', 'precision__loss_scaling': 'fixed'}
    with pytest.raises(
        UserError,
        match=r'^step 1: .* at a loss scale of 1.09951e\+12 \(precision.loss_'
        r'scaling=dynamic would lower it\), on rows 0 to 7',
    ):
        runs.train('llama', tmp_path / 'run', precision__loss_scale=2.0**40, **settings)


def test_what_is_not_the_scales_doing_ends_a_dynamic_run(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('lm.training.loop.SMALLEST', 2.0**12)
    from tests.training.test_nonfinite import poison_at

    poison_at(3, monkeypatch)
    with pytest.raises(
        UserError, match=r'^step 7: loss nan, gradient norm nan at a loss scale of 4096'
    ):
        runs.train('llama', tmp_path / 'run', precision__policy='fp16_mixed')


@pytest.mark.parametrize(
    ('settings', 'line'),
    [
        ({'precision.policy': 'fp4'}, r"^precision.policy='?fp4'?: must be one of auto"),
        ({'precision.policy': 'bf16_mixed', 'precision.stochastic_rounding': True},
         r'^precision.stochastic_rounding=True: precision.policy=bf16_mixed keeps'),
        ({'precision.loss_scale': 1000.0}, r'^precision.loss_scale=1000: must be a power of two'),
        ({'precision.loss_scale_growth_steps': 0}, r'^precision.loss_scale_growth_steps=0: '),
    ],
)  # fmt: skip
def test_bad_input(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        program('llama', 1, **SGD, **settings)


def test_strict_refuses_what_is_emulated(runs: Runs, tmp_path: Path) -> None:
    made = program('llama', 1, **SGD, **policy('fp8'))
    assert any('float8_e4m3fn and float8_e5m2 products are emulated' in f for f in fallbacks(made))
    with pytest.raises(UserError, match=r'--strict: .*emulated on this cpu'):
        runs.train('llama', tmp_path / 'run', precision__policy='fp8', run_strict=True)


def test_a_policy_is_not_changed_on_resume(runs: Runs, tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    runs.train('llama', workdir, train__steps=8)
    with pytest.raises(UserError, match=r"precision.policy='bf16_pure' \(there: 'fp32'\)"):
        runs.train('llama', workdir, train__steps=16, precision__policy='bf16_pure')


CHANCE = {'precision.stochastic_rounding': True}


@pytest.mark.parametrize(
    'mesh',
    [
        {'mesh.strategy': 'ddp'},
        {'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'},
        {'mesh.strategy': 'zero3', 'mesh.replica': 2, 'mesh.fsdp': 4},
    ],
    ids=lambda mesh: '-'.join(map(str, mesh.values())),
)
def test_copies_of_a_parameter_are_rounded_alike(mesh: dict[str, Any]) -> None:
    made = program('llama', 8, **ADAMW, **policy('bf16_pure'), **CHANCE, **mesh)
    state, [batch] = begun(made), batches(made, 1)
    for _ in range(2):
        state, _ = compiled(made)(state, made.layout.place(batch))
        jax.block_until_ready(state)
    copies = 0
    for x in jax.tree.leaves(state):
        by_place: dict[str, np.ndarray] = {}
        for shard in x.addressable_shards:
            own, place = np.asarray(shard.data), str(shard.index)
            copies += place in by_place
            np.testing.assert_array_equal(own, by_place.setdefault(place, own))
    assert copies > 8


def test_layers_and_parameters_and_steps_are_rounded_by_chances_of_their_own() -> None:
    """Two stacked layers, and two parameters, of equal numbers, gradients and state."""
    params = {name: jnp.ones((2, 64, 64), jnp.bfloat16) for name in 'ab'}
    gradients = {name: jnp.full(x.shape, 1e-3, jnp.bfloat16) for name, x in params.items()}
    optimizer = optax.sgd(1.0)

    def moved(key: jax.Array) -> np.ndarray:
        made, _ = taken(optimizer, gradients, optimizer.init(params), params, Taking(key=key))
        return np.stack([np.asarray(made[name], np.float32) for name in 'ab'])

    first, second = moved(jax.random.key(0)), moved(jax.random.key(1))
    kinds = [first[0, 0], first[0, 1], first[1, 0], second[0, 0]]
    for i, one in enumerate(kinds):
        share = np.mean(one != 1)
        assert share == pytest.approx(1e-3 / 2**-8, abs=0.05)  # down to 1 - 2^-8
        for other in kinds[:i]:
            assert np.mean(one == other) < 0.9
    layers = [Taking(key=jax.random.key(0)).part(jnp.int32(i)).key for i in range(2)]
    assert not np.array_equal(*(np.asarray(jax.random.key_data(key)) for key in layers))


def test_offloaded_layers_draw_apart() -> None:
    settings = {**ADAMW, **policy('bf16_pure'), **CHANCE, 'model.num_layers': 2}
    made = program('llama', 1, **{**settings, 'mesh.offload': 'optimizer', 'optim.peak_lr': 1e-4})
    like, [batch] = made.abstract_state, batches(made, 1)
    start = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    # Both layers alike: they then have the same update, but for where they are in the model.
    params = {path: np.full(x.shape, 0.25, x.dtype) for path, x in like.params.items()}
    start = jax.device_put(start._replace(params=params), jax.tree.map(lambda x: x.sharding, like))
    state, _ = compiled(made)(start, made.layout.place(batch))
    norm = np.asarray(state.params['decoder/layers/feed_forward/up'], np.float32)
    changed = norm != 0.25
    assert changed.any() and not np.array_equal(changed[0], changed[1])


def test_rounding_by_chance_resumes_bit_for_bit(runs: Runs, tmp_path: Path) -> None:
    settings = {'precision__policy': 'bf16_pure', 'precision__stochastic_rounding': True}
    straight = runs.train('llama', tmp_path / 'straight', train__steps=16, **settings)
    runs.train('llama', tmp_path / 'resumed', train__steps=8, **settings)
    resumed = runs.train('llama', tmp_path / 'resumed', train__steps=16, **settings)
    assert straight['params_sha256'] == resumed['params_sha256']


def test_moments_of_bf16_decay_by_chance_and_are_told_of_where_they_stand_still() -> None:
    """A second moment of 0.2 under b2 = 0.999, and gradients of 0: half of it is left after 693."""
    optimizer = optax.adamw(0.0, b2=0.999)
    params = {'x': jnp.zeros(2048, jnp.bfloat16)}
    full = jax.tree.map(lambda x: jnp.full_like(x, 0.2) if x.ndim else x, optimizer.init(params))
    still = {'x': jnp.zeros_like(params['x'])}

    @jax.jit
    def step(state: Any, key: jax.Array | None) -> Any:
        return taken(optimizer, still, state, params, Taking(key=key))[1]

    chance = nearest = full
    for i in range(693):
        chance, nearest = step(chance, jax.random.key(i)), step(nearest, None)
    assert float(nearest[0].nu['x'][0]) == pytest.approx(0.2, rel=0.01)
    assert float(np.asarray(chance[0].nu['x'], np.float64).mean()) == pytest.approx(0.1, rel=0.03)
    slow = {**ADAMW, **policy('bf16_pure'), 'optim.options.b2': 0.999}
    words = 'optim.options.b2=0.999: a moment in bf16, rounded to nearest, does not decay'
    assert any(note.startswith(words) for note in fallbacks(program('llama', 1, **slow)))
    assert not any(words in note for note in fallbacks(program('llama', 1, **slow, **CHANCE)))


def test_a_loss_that_is_no_number_skips_the_step_whatever_the_gradients() -> None:
    kept = LossScale(jnp.float32(8), jnp.int32(3), jnp.int32(0))
    state = State({}, (), jnp.int32(3), kept)
    scaling = Scaling(8.0, 1000, 16)
    told = jnp.asarray([jnp.inf, 1.0, 16.0])
    taking = build_taking(scaling, jax.random.key(0), stochastic_rounding=False)(state, told)
    assert not taking.finite
    behind, packed = advanced(state, {}, (), told, lambda step: 0.1, scaling)
    assert Metrics.unpacked(packed).skipped and int(behind.loss_scale.skipped) == 1


def test_the_noise_scale_is_that_of_gradients_as_they_are() -> None:
    settings = {**ADAMW, 'train.noise_scale': True}
    plain = program('llama', 1, 4, **settings)
    data = batches(plain, 1)
    scaled = program('llama', 1, 4, **settings, **FIXED, **{'precision.loss_scale': 2.0**60})
    spreads = [after(made, data)[1][0].spread for made in (plain, scaled)]
    assert spreads[0] is not None and spreads[0] == spreads[1]


def test_the_gradient_of_a_bf16_table_adds_up() -> None:
    """A token looked up 4096 times: in bf16 a sum of ones stands still at 256."""
    made = program('llama', 1, **ADAMW, **policy('bf16_pure'))
    table = nnx.Param(jnp.zeros((8, 4), jnp.bfloat16), dims='VD')
    context = Context(made.layout, 'bfloat16')
    ids = jnp.full((4096,), 3)

    def total(value: jax.Array) -> jax.Array:
        held = nnx.Param(value, dims='VD')
        return context.rows(held, ids).astype(jnp.float32).sum()

    assert float(jax.grad(total)(table[...])[3, 0]) == 4096
