"""Attention by blocks of queries, against the whole mask written out."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from lm.attention import blockwise, masked
from lm.attention.kernel import BLOCK, Chip, Kernel, Use, choose
from lm.attention.sight import Sight
from lm.batch import Batch
from lm.config import MeshConfig
from lm.errors import UserError
from lm.layout import Layout
from lm.mesh import mesh as meshes
from tests.models.tiny import VOCABULARY, perturbed, side, tiny

ROWS, LENGTH, HEADS, GROUPS, WIDTH = 2, 5 * BLOCK, 4, 2, 8  # in groups of 2, 2 and 1 blocks
IDS = np.ones((ROWS, LENGTH), np.int32)
IDS[0] = np.repeat([1, 2, 3, 0], [200, 140, 230, 70])
CPU = Chip('cpu')

rng = np.random.default_rng(0)
BIAS = rng.normal(size=(HEADS, LENGTH, LENGTH)).astype(np.float32)
PREFIX = rng.random((ROWS, LENGTH)) < 0.2
KINDS: dict[str, tuple[bool, dict[str, Any]]] = {
    'causal': (True, {}),
    'both ways': (False, {}),
    'causal window': (True, {'window': 150}),
    'window': (False, {'window': 150}),
    'window of a layer': (False, {'window': jnp.int32(150)}),
    'prefix': (True, {'prefix_BS': jnp.asarray(PREFIX)}),
    'prefix and window': (True, {'prefix_BS': jnp.asarray(PREFIX), 'window': 150}),
    'bias': (True, {'bias_HTS': jnp.asarray(BIAS)}),
    'bias and window': (True, {'bias_HTS': jnp.asarray(BIAS), 'window': 150}),
    'bias of all heads': (False, {'bias_HTS': jnp.asarray(BIAS[:1])}),
}


def values_and_gradients(
    attend: Any, kind: str, keys: int = LENGTH, dtype: Any = jnp.float32
) -> Any:
    """Of q, k, v and the bias, where there is one; of queries that are not padding."""
    causal, more = KINDS[kind]
    rng = np.random.default_rng(1)
    shapes = [(ROWS, LENGTH, HEADS), (ROWS, keys, GROUPS), (ROWS, keys, GROUPS)]
    arrays = [jnp.asarray(rng.normal(size=(*s, WIDTH)), dtype) for s in shapes]
    weight = jnp.asarray(rng.normal(size=(*shapes[0], WIDTH)), jnp.float32)
    segments_BT = jnp.asarray(IDS)
    segments_BS = segments_BT if keys == LENGTH else segments_BT[:, :keys]

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None) -> Any:
        told = {**more, 'bias_HTS': bias} if bias is not None else more
        seen = attend(q, k, v, Sight(segments_BT, segments_BS, causal, 0.3, **told))
        seen = jnp.where((segments_BT > 0)[:, :, None, None], seen, 0)
        return jnp.sum(seen * weight), seen

    bias = more.get('bias_HTS')
    over = (0, 1, 2) if bias is None else (0, 1, 2, 3)
    return jax.jit(jax.grad(loss, argnums=over, has_aux=True))(*arrays, bias)


def assert_close(got: Any, want: Any, tolerance: float = 2e-6) -> None:
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        x, y = x.astype(jnp.float32), y.astype(jnp.float32)
        np.testing.assert_allclose(x, y, atol=tolerance * float(jnp.abs(y).max()))


@pytest.mark.parametrize('kind', KINDS)
def test_as_the_written_out_mask(kind: str) -> None:
    want = values_and_gradients(masked.attend, kind)
    assert_close(values_and_gradients(blockwise.attend, kind), want)


@pytest.mark.parametrize('kind', ['causal', 'bias'])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(jnp.bfloat16, 1e-2), (jnp.float16, 1e-3)])
def test_in_16_bit(kind: str, dtype: Any, tolerance: float) -> None:
    """Beside fp32 of the same numbers: only what products read and give is rounded."""
    rounded = partial(values_and_gradients, kind=kind, dtype=dtype)

    def in_fp32(q: jax.Array, k: jax.Array, v: jax.Array, sight: Sight) -> jax.Array:
        return masked.attend(*(x.astype(jnp.float32) for x in (q, k, v)), sight)

    got = rounded(blockwise.attend)
    (of_q, of_k, of_v, *of_bias), seen = got
    assert {x.dtype for x in (of_q, of_k, of_v, seen)} == {jnp.dtype(dtype)}
    assert [x.dtype for x in of_bias] == [jnp.float32] * len(of_bias)
    assert_close(got, rounded(in_fp32), tolerance)


def test_in_the_precision_of_the_forward_pass() -> None:
    def attend(*given: Any) -> jax.Array:
        with jax.default_matmul_precision('highest'):
            return blockwise.attend(*given)

    text = str(jax.make_jaxpr(lambda: values_and_gradients(attend, 'causal'))())
    products = text.count('dot_general[')
    # Each loop's: two products of the forward pass, five of the backward one.
    assert products == 3 * (2 + 5)
    assert text.count('Precision.HIGHEST') == 2 * products


def test_keys_of_another_row() -> None:
    """The first row's third segment has no key there: its queries get the mean of all values."""
    keys = 300
    want = values_and_gradients(masked.attend, 'both ways', keys)
    got = values_and_gradients(blockwise.attend, 'both ways', keys)
    assert_close(got, want)


@pytest.mark.parametrize('kind', ['causal', 'both ways', 'bias'])
def test_the_scores_of_one_block_are_held(kind: str) -> None:
    causal, more = KINDS[kind]
    x_BTHK = jax.ShapeDtypeStruct((ROWS, LENGTH, HEADS, WIDTH), jnp.float32)
    ids = jnp.ones((ROWS, LENGTH), jnp.int32)

    def temporaries(attend: Any) -> int:
        def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return jnp.sum(attend(q, k, v, Sight(ids, ids, causal, 0.3, **more)) ** 2)

        function = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        analysis = function.lower(x_BTHK, x_BTHK, x_BTHK).compile().memory_analysis()
        return int(analysis.temp_size_in_bytes)

    scores = 4 * ROWS * HEADS * LENGTH**2
    assert temporaries(masked.attend) > 2 * scores
    assert temporaries(blockwise.attend) < 1.25 * scores + x_BTHK.size * 4 * 8


def test_a_layout_attends_by_blocks_where_rows_are_whole_blocks() -> None:
    layout = Layout()
    layout.kernel = Kernel('blockwise')
    text = str(jax.make_jaxpr(lambda: values_and_gradients(layout.seen, 'causal'))())
    assert 'scan' in text
    ids = jnp.ones((1, 100), jnp.int32)
    assert not blockwise.serves(Sight(ids, ids, True, 0.3))
    x_BTHK = jnp.ones((1, 100, HEADS, WIDTH))
    seen = layout.seen(x_BTHK, x_BTHK, x_BTHK, Sight(ids, ids, True, 0.3))
    np.testing.assert_allclose(seen, 1, rtol=1e-5)


def test_each_device_attends_by_its_own_rows_and_heads() -> None:
    layout = meshes.build(MeshConfig(fsdp=2, tensor=2, devices=4), ROWS, 1)
    layout = dataclasses.replace(layout, kernel=Kernel('blockwise'))
    ids = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32, sharding=layout.rows((ROWS, LENGTH)))
    split = layout.sharding(PartitionSpec('fsdp', None, 'tensor', None))
    x_BTHK = jax.ShapeDtypeStruct((ROWS, LENGTH, HEADS, WIDTH), jnp.float32, sharding=split)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.sum(layout.seen(q, k, v, Sight(ids, ids, True, 0.3)) ** 2)

    function = jax.jit(jax.grad(loss, argnums=(0, 1, 2)), out_shardings=(split,) * 3)
    text = function.lower(x_BTHK, x_BTHK, x_BTHK, ids).compile().as_text()
    assert 'while' in text
    for collective in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute'):
        assert collective not in text


def test_who_attends_by_blocks() -> None:
    def chosen(*uses: Use, asked: Any = 'auto') -> Kernel:
        return choose(asked, CPU, 'float32', 64, uses)

    assert chosen(Use('decoder', 256)).words == 'blockwise'
    assert chosen(Use('encoder', 256, bias=True)).words == 'blockwise'
    for use in (Use('decoder', 128), Use('decoder', 300)):
        assert chosen(use).words == 'xla'
    both = chosen(Use('encoder', 1024), Use('decoder', 114), Use('cross-attention', 114))
    assert both.words == (
        'blockwise; by XLA with a mask: decoder (114 positions are not several times 128), '
        'cross-attention (114 positions are not several times 128)'
    )
    assert chosen(Use('encoder', 512), asked='xla').words == 'xla (asked for)'
    assert choose('blockwise', Chip('gpu', 9.0), 'bfloat16', 64, ()).words == 'blockwise'
    with pytest.raises(UserError, match='blockwise: takes none of the model .encoder: 100 posit'):
        chosen(Use('encoder', 100), asked='blockwise')


@pytest.mark.parametrize('kind', ['causal', 'bias', 'window', 'causal window'])
def test_fewer_keys_than_queries(kind: str) -> None:
    """Groups of queries whose keys would all lie beyond the last have one key, which is hidden."""
    keys, (causal, more) = 256, KINDS[kind]
    more = {name: x[:, :, :keys] if name == 'bias_HTS' else 20 for name, x in more.items()}
    segments_BT, segments_BS = (jnp.ones((ROWS, n), jnp.int32) for n in (LENGTH, keys))
    sight = Sight(segments_BT, segments_BS, causal, 0.3, **more)
    seeing_T = np.asarray(sight.mask_BTS[0].any(axis=1))
    assert seeing_T[:keys].all() and (kind in ('causal', 'bias')) == seeing_T.all()
    rng = np.random.default_rng(1)
    shapes = [(ROWS, LENGTH, HEADS), (ROWS, keys, GROUPS), (ROWS, keys, GROUPS)]
    arrays = [jnp.asarray(rng.normal(size=(*s, WIDTH)), jnp.float32) for s in shapes]

    def both(attend: Any) -> Any:
        def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            seen = jnp.where(seeing_T[:, None, None], attend(q, k, v, sight), 0)
            return jnp.sum(seen**2), seen

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*arrays)

    assert_close(both(blockwise.attend), both(masked.attend), 4e-6)


def test_rows_mapped_by_vmap() -> None:
    """As `lm inspect` maps them."""
    sight = Sight(jnp.asarray(IDS), jnp.asarray(IDS), True, 0.3)
    rng = np.random.default_rng(1)
    q, k, v = (
        jnp.asarray(rng.normal(size=(3, ROWS, LENGTH, heads, WIDTH)), jnp.float32)
        for heads in (HEADS, GROUPS, GROUPS)
    )

    def gradient(attend: Any) -> Any:
        def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return jnp.sum(attend(q, k, v, sight) ** 2)

        return jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1, 2))))(q, k, v)

    assert_close(gradient(blockwise.attend), gradient(masked.attend), 4e-6)


@pytest.mark.parametrize('remat', ['full', 'dots'])
@pytest.mark.parametrize('scan_layers', [True, False])
def test_what_is_recomputed_is_the_same(remat: str, scan_layers: bool) -> None:
    length = 2 * BLOCK
    batch = Batch(*side([150, 100], length, np.arange(length) % VOCABULARY))
    layout = Layout()
    layout.kernel = Kernel('blockwise')

    def gradients(remat: str) -> Any:
        model = tiny('llama', max_positions=length, scan_layers=scan_layers, remat=remat)

        def loss(params: Any) -> jax.Array:
            logits_BTV = model.on(layout).apply(params, batch)[..., :VOCABULARY]
            return jnp.sum(jax.nn.log_softmax(logits_BTV) ** 2)

        return jax.jit(jax.grad(loss))(perturbed(model))

    assert_close(gradients(remat), gradients('none'), 1e-5)


def test_products_that_are_kept_leave_attention_as_it_is() -> None:
    """With `dots` the loops of the forward pass run once; with `full` twice."""
    length = 2 * BLOCK
    batch = Batch(*side([length], length, np.arange(length) % VOCABULARY))
    layout = Layout()
    layout.kernel = Kernel('blockwise')

    def loops(remat: str) -> int:
        model = tiny('llama', max_positions=length, scan_layers=False, remat=remat).on(layout)

        def loss(params: Any) -> jax.Array:
            return jnp.sum(model.apply(params, batch)[..., :VOCABULARY] ** 2)

        gradient = jax.jit(jax.grad(loss)).lower(model.shapes)
        return gradient.as_text().count('stablehlo.while')

    assert loops('none') == loops('dots') < loops('full')
