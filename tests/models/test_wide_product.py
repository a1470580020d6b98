"""A product whose backward pass is written out, as logits are: its numbers, and what it holds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.models.wide_product import wide_product
from lm.objectives._cross_entropy import cross_entropy

B, T, D, V = 2, 32, 16, 4096
TARGETS = jnp.asarray(np.random.default_rng(0).integers(0, V, (B, T)))
Scores = Callable[[jax.Array, jax.Array], jax.Array]


def plain(x_BTD: jax.Array, weight_DV: jax.Array) -> jax.Array:
    return jnp.einsum('BTD,DV->BTV', x_BTD, weight_DV, preferred_element_type=jnp.float32)


def factors(dtype: Any) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(B, T, D)), dtype), jnp.asarray(
        rng.normal(size=(D, V)), dtype
    )


def value_and_gradients(scores: Scores) -> Any:
    def loss(x_BTD: jax.Array, weight_DV: jax.Array) -> jax.Array:
        return jnp.sum(cross_entropy(scores(x_BTD, weight_DV), TARGETS))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_value_and_gradients(dtype: str) -> None:
    want = value_and_gradients(plain)(*factors(dtype))
    got = value_and_gradients(partial(wide_product, dtype=jnp.float32))(*factors(dtype))
    tolerance = 1e-6 if dtype == 'float32' else 1e-2
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.dtype == y.dtype
        x, y = x.astype(jnp.float32), y.astype(jnp.float32)
        np.testing.assert_allclose(x, y, atol=tolerance * float(jnp.abs(y).max()))


def test_of_the_logits_size_are_they_and_their_gradient() -> None:
    def held(scores: Scores) -> float:
        """In the logits' size."""
        compiled = value_and_gradients(scores).lower(*factors('float32')).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (4 * B * T * V)

    assert held(partial(wide_product, dtype=jnp.float32)) < 2.2 < 2.9 < held(plain)


def test_in_the_precision_of_the_forward_pass() -> None:
    with jax.default_matmul_precision('highest'):
        text = (
            jax.jit(partial(wide_product, dtype=jnp.float32)).lower(*factors('float32')).as_text()
        )
    assert text.count('HIGHEST') == 2  # of either factor

    def loss(x_BTD: jax.Array, weight_DV: jax.Array) -> jax.Array:
        with jax.default_matmul_precision('highest'):
            return jnp.sum(wide_product(x_BTD, weight_DV, jnp.float32))

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*factors('float32')).as_text()
    assert 'DEFAULT' not in text and text.count('HIGHEST') >= 4
