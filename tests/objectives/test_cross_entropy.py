"""Cross-entropy: its value and its hand-written gradient, against NumPy and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.batch import Batch
from lm.objectives._cross_entropy import cross_entropy, squared_log_normaliser
from lm.objectives._objective import weighted_cross_entropy

B, T, V = 2, 5, 11


def drawn(dtype: str = 'float32', scale: float = 4.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits whose last two columns are -inf, targets among the others, and cotangents."""
    rng = np.random.default_rng(0)
    logits = scale * rng.standard_normal((B, T, V)).astype(np.float32)
    logits[..., -2:] = -np.inf
    targets = rng.integers(0, V - 2, (B, T)).astype(np.int32)
    weights = rng.standard_normal((B, T)).astype(np.float32)
    return jnp.asarray(logits, dtype), jnp.asarray(targets), jnp.asarray(weights)


def in_float64(
    logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """The nats, and the gradient of their weighted sum."""
    x = np.asarray(logits).astype(np.float64)
    largest = x.max(-1, keepdims=True)
    e = np.exp(x - largest)
    p = e / e.sum(-1, keepdims=True)
    hit = np.eye(V)[np.asarray(targets)]
    nats = np.log(e.sum(-1)) + largest[..., 0] - np.where(hit > 0, x, 0).sum(-1)
    return nats, np.asarray(weights, np.float64)[..., None] * (p - hit)


def weighted(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sum(cross_entropy(logits, targets) * weights)


def by_autodiff(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    fp32 = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(fp32, targets[..., None], axis=-1)[..., 0]
    return jnp.sum((jax.nn.logsumexp(fp32, axis=-1) - chosen) * weights)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('scale', [4.0, 1e4])
def test_value_and_gradient(dtype: str, scale: float) -> None:
    logits, targets, weights = drawn(dtype, scale)
    nats, gradient = in_float64(logits, targets, weights)
    got = cross_entropy(logits, targets)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, nats, rtol=1e-6, atol=1e-6)
    got = jax.grad(weighted)(logits, targets, weights)
    assert got.dtype == logits.dtype
    tolerance = 1e-6 if dtype == 'float32' else 1e-2
    np.testing.assert_allclose(got.astype(jnp.float32), gradient, rtol=tolerance, atol=tolerance)
    assert (np.asarray(got[..., -2:], np.float32) == 0).all()


def test_gradient_is_autodiffs() -> None:
    arguments = drawn()
    want = jax.grad(by_autodiff)(*arguments)
    np.testing.assert_allclose(jax.grad(weighted)(*arguments), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(jax.grad(jax.checkpoint(weighted)))(*arguments), want, rtol=1e-5, atol=1e-6
    )


def test_under_vmap_and_scan() -> None:
    logits, targets, weights = drawn()
    want = jax.grad(weighted)(logits, targets, weights)
    rows = [x[:, None] for x in (logits, targets, weights)]
    np.testing.assert_allclose(jax.vmap(jax.grad(weighted))(*rows)[:, 0], want, rtol=1e-6)

    def scanned(logits: jax.Array) -> jax.Array:
        def add(total: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            return total + weighted(row[0], row[1], row[2]), None

        return jax.lax.scan(add, jnp.float32(0), (logits, rows[1], rows[2]))[0]

    np.testing.assert_allclose(jax.grad(scanned)(rows[0])[:, 0], want, rtol=1e-6)


def test_a_target_of_weight_zero_may_have_no_probability() -> None:
    logits, targets, weights = drawn()
    targets = targets.at[0, 0].set(V - 1)
    positive = jnp.abs(weights).at[0, 0].set(0)

    def loss(logits: jax.Array) -> jax.Array:
        batch = Batch(targets, targets, targets, targets=targets, loss_weights=positive)
        return weighted_cross_entropy(logits, batch).loss

    value, gradient = jax.value_and_grad(loss)(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert (gradient[0, 0] == 0).all()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_squared_log_normaliser(dtype: str) -> None:
    logits, _, weights = drawn(dtype)
    x = np.asarray(logits).astype(np.float64)
    log_z = np.log(np.exp(x).sum(-1))
    p = np.exp(x - log_z[..., None])
    got = squared_log_normaliser(logits)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, log_z**2, rtol=1e-6)
    want = (2 * np.asarray(weights, np.float64) * log_z)[..., None] * p
    got = jax.grad(lambda x: jnp.sum(squared_log_normaliser(x) * weights))(logits)
    assert got.dtype == logits.dtype
    tolerance = 1e-6 if dtype == 'float32' else 1e-2
    np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=tolerance, atol=tolerance)


def test_with_the_z_loss_no_further_array_of_the_logits_size_is_kept() -> None:
    logits, targets, weights = (jnp.tile(x, (1, 64) + (1,) * (x.ndim - 2)) for x in drawn())

    def temporaries(z_loss: float) -> int:
        def loss(logits: jax.Array) -> jax.Array:
            total = weighted(logits, targets, weights)
            if not z_loss:
                return total
            return total + z_loss * jnp.sum(squared_log_normaliser(logits) * weights)

        analysis = jax.jit(jax.grad(loss)).lower(logits).compile().memory_analysis()
        return int(analysis.temp_size_in_bytes)

    assert temporaries(0.5) < temporaries(0.0) + logits.nbytes / 2
