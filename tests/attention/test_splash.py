"""Splash attention in Pallas interpret mode, against the written-out mask in fp32."""

import dataclasses
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from lm.attention import masked, splash
from lm.attention.kernel import Chip, Kernel, Use, choose
from lm.attention.sight import Sight
from lm.config import MeshConfig
from lm.errors import UserError
from lm.mesh import mesh as meshes
from lm.models.layers import SAVED
from tests.models.tracing import equations

ROWS, LENGTH, HEADS, GROUPS, WIDTH = 2, 256, 4, 2, 16
IDS = np.ones((ROWS, LENGTH), np.int32)
IDS[0] = np.repeat([1, 2, 3, 0], [100, 50, 90, 16])
TPU = Chip('tpu')


def gradients(attend, dtype, *kinds: tuple[bool, int | None], groups: int = GROUPS):
    """Values and gradients over q, k and v, fp32, of each (causal, window); padding left out."""
    rng = np.random.default_rng(0)
    shapes = [(ROWS, LENGTH, n, WIDTH) for n in (HEADS, groups, groups, HEADS)]
    q, k, v, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    segments_BT = jnp.asarray(IDS)

    def loss(q, k, v, sight):
        seen = attend(q.astype(dtype), k.astype(dtype), v.astype(dtype), sight)
        seen = jnp.where((segments_BT > 0)[:, :, None, None], seen.astype(jnp.float32), 0)
        return jnp.sum(seen * weight), seen

    def all_kinds(q, k, v):
        sights = [Sight(segments_BT, segments_BT, c, 0.25, window) for c, window in kinds]
        over = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
        return [over(q, k, v, sight) for sight in sights]

    return jax.jit(all_kinds)(q, k, v)


def close(got, want) -> None:
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.linalg.norm(x - y) / jnp.linalg.norm(y) < 1e-2


def test_as_the_written_out_mask() -> None:
    """Packed rows with padding; two heads share a key."""
    kinds = ((True, None), (False, None), (True, 30), (False, 30))
    interpreted = partial(splash.attend, interpret=True)
    with jax.default_matmul_precision('highest'):
        want = gradients(masked.attend, jnp.float32, *kinds)
    close(gradients(interpreted, jnp.bfloat16, *kinds), want)


def test_a_mesh_splits_rows_and_whole_groups_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splash, 'attend', partial(splash.attend, interpret=True))
    layout = meshes.build(MeshConfig(fsdp=2, tensor=2, devices=4), 2, 1)
    layout = dataclasses.replace(layout, kernel=Kernel('splash'))
    for groups, heads in ((2, 'tensor'), (1, None)):
        q_BTHK = jnp.ones((ROWS, LENGTH, HEADS, WIDTH), jnp.bfloat16)
        k_BTGK = jnp.ones((ROWS, LENGTH, groups, WIDTH), jnp.bfloat16)
        split = PartitionSpec('fsdp', None, heads, None)
        assert layout._by_groups(q_BTHK, k_BTGK) == (split, split)
        with jax.default_matmul_precision('highest'):
            want = gradients(masked.attend, jnp.float32, (True, None), groups=groups)
        close(gradients(layout.seen, jnp.bfloat16, (True, None), groups=groups), want)


def test_what_it_does_not_serve_has_a_mask() -> None:
    ids = jnp.asarray(IDS)
    assert splash.serves(Sight(ids, ids, True, 0.25, 7))
    others = [
        Sight(ids, ids + 0, False, 0.25),
        Sight(ids[:, :100], ids[:, :100], True, 0.25),
        Sight(ids, ids, False, 0.25, jnp.int32(7)),
        Sight(ids, ids, True, 0.25, None, ids > 0),
        Sight(ids, ids, True, 0.25, None, None, jnp.ones((1, LENGTH, LENGTH))),
    ]
    assert not any(splash.serves(sight) for sight in others)


def test_remat_keeps_what_it_gives() -> None:
    def attend(x_BTHK: jax.Array) -> jax.Array:
        ids = jnp.asarray(IDS)
        x_BTHK = x_BTHK.astype(jnp.bfloat16)
        seen = splash.attend(x_BTHK, x_BTHK, x_BTHK, Sight(ids, ids, True, 0.25), interpret=True)
        return seen.astype(jnp.float32).sum()

    x_BTHK = jnp.ones((ROWS, LENGTH, HEADS, WIDTH))
    for saved, again in (('dots', 0), ('full', 1)):
        function = jax.grad(jax.checkpoint(attend, policy=SAVED[saved]))
        names = Counter(
            e.primitive.name for e, _ in equations(jax.make_jaxpr(function)(x_BTHK).jaxpr)
        )
        # Forwards the output and the sums have a name; backwards, what is computed again.
        assert names['name'] == 2 + again


def test_who_is_served_and_who_is_told_why() -> None:
    decoder, crossing = Use('decoder', 256), Use('cross-attention', 256, crosses=True)
    assert choose('auto', TPU, 'bfloat16', 64, (decoder,)).words == 'splash'
    assert choose('auto', TPU, 'bfloat16', 64) == Kernel('splash')
    assert choose('auto', TPU, 'float32', 64).reason.endswith('not in float32')
    both = choose('auto', TPU, 'bfloat16', 64, (decoder, crossing))
    assert both.words == ("splash; by XLA with a mask: cross-attention (keys are another row's)")
    # A family's own attention that falls back is refused by --strict, cross-attention is not.
    assert not both.left_behind
    odd = Use('encoder', 100)
    assert choose('auto', TPU, 'bfloat16', 64, (decoder, odd)).left_behind == {
        'encoder': '100 positions are no multiple of 128'
    }
    biased = choose('auto', TPU, 'bfloat16', 64, (Use('decoder', 256, bias=True), crossing))
    assert biased.name == 'xla' and 'decoder: bias' in biased.reason
    for chip, dtype, uses, why in (
        (Chip('cpu'), 'bfloat16', (), 'needs a TPU'),
        (TPU, 'float32', (), 'not in float32'),
        (TPU, 'bfloat16', (odd,), 'takes none of the model'),
    ):
        with pytest.raises(UserError, match=f'mesh.attention=splash: .*{why}'):
            choose('splash', chip, dtype, 64, uses)
