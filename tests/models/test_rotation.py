"""Rotary positions: how often their angles are computed."""

import jax
import jax.numpy as jnp
import numpy as np

from lm.batch import Batch
from lm.models.positions import rotation
from lm.models.spec import Positions
from tests.models.tiny import VOCABULARY, perturbed, side, tiny

LAYERS = 3


def test_angles_are_those_of_float64() -> None:
    positions_BT = np.random.default_rng(0).integers(0, 4096, (2, 5)).astype(np.int32)
    cos, sin = jax.jit(lambda x: rotation(x, 12, Positions('rope')))(positions_BT)
    frequency_N = 10000.0 ** (-np.arange(0, 12, 2) / 12)
    angle_BT1N = positions_BT[..., None, None] * frequency_N
    assert cos.dtype == sin.dtype == jnp.float32
    # An fp32 number of some thousand is known to a few 1e-4 of a turn.
    np.testing.assert_allclose(cos, np.cos(angle_BT1N), atol=5e-4)
    np.testing.assert_allclose(sin, np.sin(angle_BT1N), atol=5e-4)


def test_a_cpu_computes_them_once() -> None:
    """Not in each layer, for queries, keys and both passes, as XLA would."""
    model = tiny('llama', num_layers=LAYERS, scan_layers=False)
    batch = Batch(*side([12], 12, np.arange(VOCABULARY)))

    def loss(params: dict[str, jax.Array], batch: Batch) -> jax.Array:
        return jnp.sum(model.apply(params, batch) ** 2)

    text = jax.jit(jax.grad(loss)).lower(perturbed(model), batch).compile().as_text()
    assert (text.count(' cosine('), text.count(' sine(')) == (1, 1)
