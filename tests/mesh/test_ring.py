"""Ring attention against attention on one device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.config import MeshConfig
from lm.layout import Layout
from lm.mesh import build
from lm.mesh.mesh import MeshLayout
from lm.planning.collectives import collectives
from tests.xla import AS_FOR_USERS

T = 32
CASES: dict[str, dict[str, Any]] = {
    'causal': {'causal': True},
    'causal, window': {'causal': True, 'window': 5},
    'both ways': {'causal': False},
    'both ways, window': {'causal': False, 'window': 5},
    'both ways, biased': {'causal': False, 'bias': True},
    'causal, biased': {'causal': True, 'bias': True, 'scale': 1.0},
    'prefixes': {'causal': True, 'prefix': True},
    'prefixes, window': {'causal': True, 'prefix': True, 'window': 5},
}


def layout(seq: int, tensor: int = 1) -> MeshLayout:
    return build(MeshConfig(seq=seq, tensor=tensor, context='ring'), 8, 1)


def inputs(bias: bool) -> list[Any]:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((8, T, heads, 6)).astype(np.float32) for heads in (4, 2, 2))
    segments = np.sort(rng.integers(0, 4, (8, T)), axis=1).astype(np.int32)
    return [q, k, v, segments, rng.standard_normal((4, T, T)).astype(np.float32) if bias else None]


def attention(of: Layout, case: dict[str, Any]) -> Any:
    words = {name: value for name, value in case.items() if name not in ('bias', 'prefix')}
    if case.get('prefix'):
        # Of every segment the beginning, as long as chance has it, and of some more than a block.
        segments = inputs(False)[3]
        places = np.arange(T) - (segments[:, :, None] == segments[:, None]).argmax(2)
        cuts = np.random.default_rng(2).integers(1, 12, (8, 4))
        words['prefix_BS'] = jnp.asarray(places < np.take_along_axis(cuts, segments, axis=1))

    def attend(q: Any, k: Any, v: Any, segments: Any, bias: Any) -> jax.Array:
        segments = jnp.asarray(segments)
        return of.attend(
            q, k, v, segments_BT=segments, segments_BS=segments, bias_HTS=bias, **words
        )

    return attend


@pytest.mark.parametrize(('seq', 'tensor'), [(8, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize('name', [*CASES])
def test_outputs_and_gradients(name: str, seq: int, tensor: int) -> None:
    case = CASES[name]
    arrays = inputs(case.get('bias', False))
    weights = np.random.default_rng(1).standard_normal((8, T, 4, 6)).astype(np.float32)
    given = (0, 1, 2, 4) if case.get('bias') else (0, 1, 2)

    def value(of: Layout, options: dict[str, Any]) -> Any:
        def total(*arrays: Any) -> tuple[jax.Array, jax.Array]:
            out = attention(of, case)(*arrays)
            return jnp.sum(out * weights), out

        lowered = jax.jit(jax.value_and_grad(total, argnums=given, has_aux=True)).lower(*arrays)
        return lowered.compile(compiler_options=options)(*arrays)

    (_, want), want_gradients = value(Layout(), {})
    # Compiled in two ways: what is computed anew backwards is not always rounded as it was.
    for options in ({}, AS_FOR_USERS) if case.get('bias') else ({},):
        (_, got), got_gradients = value(layout(seq, tensor), options)
        np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())
        for one, other in zip(got_gradients, want_gradients, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize('name', ['causal', 'prefixes'])
def test_keys_go_round_and_are_never_together(name: str) -> None:
    compiled = jax.jit(attention(layout(8), CASES[name])).lower(*inputs(False)).compile()
    kinds = {one.kind for one in collectives(compiled.as_text()) if one.elements > 100}
    assert kinds == {'collective-permute'}


def test_a_causal_ring_computes_half_of_the_scores() -> None:
    # The jaxpr tells it without a device: products of the turns after the first.
    text = str(jax.make_jaxpr(attention(layout(8), CASES['causal']))(*inputs(False)))
    whole, half = T // 8, T // 16
    assert f'f32[8,2,2,{whole},{half}]' in text and f'f32[8,2,2,{half},{whole}]' in text


def test_other_keys_are_gathered() -> None:
    # Cross-attention of as many queries as keys is no ring over one row.
    q, k, v, segments = map(jnp.asarray, inputs(False)[:4])
    other = segments[:, ::-1]
    words = {'segments_BT': segments, 'segments_BS': other, 'causal': False}
    want = Layout().attend(q, k, v, **words)
    got = jax.jit(lambda q, k, v: layout(8).attend(q, k, v, **words))(q, k, v)
    np.testing.assert_allclose(got, want, atol=2e-6)
