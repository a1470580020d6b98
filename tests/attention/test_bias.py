"""A bias that all rows share: its gradient, and what a CPU computes it by."""

import jax
import jax.numpy as jnp
import numpy as np

from lm.attention.bias import for_rows

ROWS = 5


def test_its_gradient_is_the_sum_over_rows() -> None:
    rng = np.random.default_rng(0)
    bias_HTS = jnp.asarray(rng.normal(size=(3, 4, 6)), jnp.float32)
    weight_BHTS = rng.normal(size=(ROWS, 3, 4, 6))

    def loss(bias_HTS: jax.Array) -> jax.Array:
        return jnp.sum(for_rows(bias_HTS, ROWS) * weight_BHTS)

    value, gradient_HTS = jax.jit(jax.value_and_grad(loss))(bias_HTS)
    np.testing.assert_allclose(value, np.sum(np.asarray(bias_HTS) * weight_BHTS), rtol=1e-5)
    np.testing.assert_allclose(gradient_HTS, weight_BHTS.sum(0), rtol=1e-5, atol=1e-6)


def test_by_a_product_on_a_cpu_and_a_sum_elsewhere() -> None:
    x_BHTS = jax.ShapeDtypeStruct((ROWS, 3, 4, 6), jnp.float32)
    back = jax.jit(lambda x: jax.vjp(lambda b: for_rows(b, ROWS), jnp.zeros((3, 4, 6)))[1](x))
    on_cpu = back.trace(x_BHTS).lower(lowering_platforms=('cpu',)).as_text()
    on_tpu = back.trace(x_BHTS).lower(lowering_platforms=('tpu',)).as_text()
    assert 'dot_general' in on_cpu and 'stablehlo.reduce' not in on_cpu
    assert 'dot_general' not in on_tpu and 'stablehlo.reduce' in on_tpu
