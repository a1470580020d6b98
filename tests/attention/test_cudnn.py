"""cuDNN's attention without a GPU: which way each sight goes, shapes, and the runs of a row.

What it computes is compared with the written-out mask on a GPU (`pytest -m gpu tests/attention`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as inside

from lm.attention import cudnn, masked
from lm.attention.kernel import Chip, Kernel, Use, chip_of, choose, worth_telling
from lm.attention.sight import Sight
from lm.errors import UserError

SEGMENTS = np.asarray([[1, 1, 1, 2, 2, 3, 0, 0], [1] * 8], np.int32)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX is told that there is cuDNN 9.13 on a GPU of compute capability 9.0."""
    monkeypatch.setattr(inside, 'check_cudnn_version', lambda: 91300)
    monkeypatch.setattr(inside, 'check_compute_capability', lambda capability: True)
    monkeypatch.setattr(inside, 'is_cuda_compute_capability_equal', lambda capability: False)


def sight(causal: bool = True, **changes) -> Sight:
    segments_BT = jnp.asarray(SEGMENTS)
    return Sight(segments_BT, segments_BT, causal, 0.25, **changes)


def operations(own: Sight, segments: int | None) -> str:
    """The jaxpr of the loss's gradient."""
    q_BTHK = jnp.ones((2, 8, 4, 16), jnp.bfloat16)
    k_BSGK = jnp.ones((2, own.segments_BS.shape[1], 2, 16), jnp.bfloat16)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return cudnn.attend(q, k, v, own, segments).astype(jnp.float32).sum()

    return str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(q_BTHK, k_BSGK, k_BSGK))


def test_runs_of_equal_ids_in_cudnns_ragged_layout() -> None:
    lengths_BN, offsets_BN = cudnn.stretches(jnp.asarray(SEGMENTS), 5)
    np.testing.assert_array_equal(lengths_BN, [[3, 2, 1, 2, -1], [8, -1, -1, -1, -1]])
    np.testing.assert_array_equal(offsets_BN, [[0, 3, 5, 6, -1, -1], [0, -1, -1, -1, -1, -1]])
    assert lengths_BN.dtype == offsets_BN.dtype == jnp.int32


@pytest.mark.parametrize('causal, mask_type', [(True, 'PADDING_CAUSAL'), (False, 'PADDING')])
def test_packed_rows_are_ragged(hopper: None, causal: bool, mask_type: str) -> None:
    said = operations(sight(causal), 4)
    assert 'dot_product_attention_fwd' in said and 'dot_product_attention_bwd' in said
    assert f'MaskType.{mask_type}:' in said or f'mask_type={inside.MaskType[mask_type]}' in said
    assert 'i32[2,4]' in said and 'i32[2,5]' in said  # lengths and beginnings go in
    assert 'f32[8,4,8]' in said  # a softmax's statistics for each of the segments
    assert '2,1,8,8]' not in said  # no mask


def test_a_row_a_segment_has_no_mask(hopper: None) -> None:
    for causal in (True, False):
        said = operations(sight(causal), 1)
        assert 'dot_product_attention_fwd' in said and '2,1,8,8]' not in said


@pytest.mark.parametrize(
    'own, segments',
    [
        (sight(), None),
        (sight(prefix_BS=jnp.ones((2, 8), bool)), 4),
        (sight(bias_HTS=jnp.ones((4, 8, 8))), 4),
        (sight(False, window=jnp.int32(3)), 4),
        (Sight(jnp.ones((2, 8), jnp.int32), jnp.ones((2, 8), jnp.int32), False, 0.25), 4),
    ],
    ids=['unknown', 'prefix', 'bias', 'window by layer', 'cross'],
)
def test_what_else_there_is_has_a_mask(hopper: None, own: Sight, segments: int | None) -> None:
    said = operations(own, segments)
    assert 'dot_product_attention_fwd' in said and '8,8]' in said and 'i32[2,5]' not in said


def test_many_segments_are_masked() -> None:
    assert worth_telling(1, 8) == 1 and worth_telling(2, 32) is None
    assert worth_telling(32, 1024) == 32 and worth_telling(33, 1024) is None
    assert Kernel('cudnn', worth_telling(33, 1024)).words == 'cudnn, with a mask'
    assert Kernel('cudnn', 5).words == 'cudnn, rows of up to 5 segments'


def test_other_kernels_are_refused_or_told_why() -> None:
    cpu = chip_of(jax.devices()[0])
    assert choose('auto', cpu, 'float32', 64) == Kernel()
    with pytest.raises(UserError, match='mesh.attention=cudnn: cuDNN needs an NVIDIA GPU'):
        choose('cudnn', cpu, 'bfloat16', 64)

    class Client:
        platform_version = 'cuda 13000'

    class Device:
        platform, client, compute_capability = 'gpu', Client(), '9.0'

    hopper = chip_of(Device())
    assert hopper == Chip('gpu', 9.0)
    assert choose('auto', hopper, 'bfloat16', 64) == Kernel('cudnn')
    assert choose('auto', hopper, 'float32', 64).reason.endswith('not in float32')
    assert 'not of 12' in choose('auto', hopper, 'bfloat16', 12).reason
    assert choose('xla', hopper, 'bfloat16', 64) == Kernel(reason='asked for')
    assert 'up to 128 wide' in choose('auto', Chip('gpu', 8.0), 'bfloat16', 256).reason
    assert 'compute capability 8.0' in choose('auto', Chip('gpu', 7.0), 'float16', 64).reason


def test_a_mask_is_told_and_is_no_fallback() -> None:
    used = (Use('decoder', 100, bias=True), Use('cross-attention', 100, crosses=True))
    kernel = dataclasses.replace(choose('auto', Chip('gpu', 9.0), 'bfloat16', 64, used), segments=3)
    assert kernel.words.startswith('cudnn, rows of up to 3 segments; with a mask: decoder (bias)')
    assert not kernel.left_behind
    alone = dataclasses.replace(kernel, segments=1)
    assert list(alone.masked) == ['cross-attention']


@pytest.mark.gpu
@pytest.mark.parametrize('causal', [True, False], ids=['causal', 'both ways'])
@pytest.mark.parametrize('segments', [None, 1, 6])
@pytest.mark.parametrize('extra', ['plain', 'bias', 'window'])
def test_as_the_written_out_mask(causal: bool, segments: int | None, extra: str) -> None:
    """Values and gradients, bf16 against fp32."""
    if jax.default_backend() != 'gpu':
        pytest.skip('needs an NVIDIA GPU')
    shape_q, shape_k, rng = (2, 256, 4, 64), (2, 256, 2, 64), np.random.default_rng(0)
    ids = np.ones((2, 256), np.int32)
    if segments == 1:
        ids[1, 100:] = 0
    else:
        ids[0] = np.repeat([1, 2, 3, 0], [100, 50, 90, 16])
        ids[1] = np.repeat([1, 2, 3, 4, 5], [1, 200, 20, 30, 5])
    segments_BT = jnp.asarray(ids)
    bias = jnp.asarray(rng.normal(size=(4, 256, 256)), jnp.float32) if extra == 'bias' else None
    window = 30 if extra == 'window' and causal else None
    q, k, v, weight = (
        jnp.asarray(rng.normal(size=s), jnp.float32) for s in (shape_q, shape_k, shape_k, shape_q)
    )

    def gradients(kernel, dtype, *rest):
        def loss(q, k, v, bias):
            own = Sight(segments_BT, segments_BT, causal, 0.125, window, None, bias)
            seen = kernel(q.astype(dtype), k.astype(dtype), v.astype(dtype), own, *rest)
            seen = jnp.where((segments_BT > 0)[:, :, None, None], seen.astype(jnp.float32), 0)
            return jnp.sum(seen * weight), seen

        over = (0, 1, 2) if bias is None else (0, 1, 2, 3)
        found = jax.jit(jax.grad(loss, argnums=over, has_aux=True))(q, k, v, bias)
        return jax.tree.leaves(found)

    got = gradients(cudnn.attend, jnp.bfloat16, segments)
    want = gradients(masked.attend, jnp.float32)
    for x, y in zip(got, want, strict=True):
        assert jnp.linalg.norm(x - y) / jnp.linalg.norm(y) < 1e-2
