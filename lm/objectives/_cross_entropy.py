"""Cross-entropy of integer targets and the z-loss, with their backward passes written out."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from lm.shapes import LogitsBTV


@jax.custom_vjp
def cross_entropy(
    logits_BTV: LogitsBTV, targets_BT: Int[jax.Array, 'B T']
) -> Float[jax.Array, 'B T']:
    """-log softmax(logits)[target] in nats, fp32, whatever the logits' dtype.

    The hand-written gradient, softmax minus one-hot, keeps the logits and one number a position
    for the backward pass; autodiff would keep a second array of the logits' size and scatter.
    A logit of -inf (a padding row of the vocabulary) has probability and gradient 0.
    """
    return _forward(logits_BTV, targets_BT)[0]


def _forward(
    logits_BTV: jax.Array, targets_BT: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    fp32_BTV = logits_BTV.astype(jnp.float32)
    log_normaliser_BT = jax.nn.logsumexp(fp32_BTV, axis=-1)
    chosen_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    nats_BT = log_normaliser_BT - chosen_BT.astype(jnp.float32)
    return nats_BT, (logits_BTV, log_normaliser_BT, targets_BT)


def _backward(
    residuals: tuple[jax.Array, jax.Array, jax.Array], gradient_BT: jax.Array
) -> tuple[jax.Array, None]:
    logits_BTV, log_normaliser_BT, targets_BT = residuals
    probabilities_BTV = jnp.exp(logits_BTV.astype(jnp.float32) - log_normaliser_BT[..., None])
    hit_BTV = targets_BT[..., None] == jnp.arange(logits_BTV.shape[-1])
    gradient_BTV = gradient_BT[..., None] * (probabilities_BTV - hit_BTV)
    return gradient_BTV.astype(logits_BTV.dtype), None


cross_entropy.defvjp(_forward, _backward)


@jax.custom_vjp
def squared_log_normaliser(logits_BTV: LogitsBTV) -> Float[jax.Array, 'B T']:
    """log² Z in fp32, where Z is the sum of the exponentials of a position's logits.

    Times a small weight it is the z-loss (Chowdhery et al. 2022, PaLM, section 5: 1e-4), which
    holds logits near their own log-probabilities. In a program that also computes
    `cross_entropy` of these logits the compiler finds one normaliser for both, and fuses their
    gradients: no further array of the logits' size is kept.
    """
    return _squared_forward(logits_BTV)[0]


def _squared_forward(logits_BTV: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    log_normaliser_BT = jax.nn.logsumexp(logits_BTV.astype(jnp.float32), axis=-1)
    return log_normaliser_BT**2, (logits_BTV, log_normaliser_BT)


def _squared_backward(
    residuals: tuple[jax.Array, jax.Array], gradient_BT: jax.Array
) -> tuple[jax.Array]:
    logits_BTV, log_normaliser_BT = residuals
    probabilities_BTV = jnp.exp(logits_BTV.astype(jnp.float32) - log_normaliser_BT[..., None])
    gradient_BTV = (2 * gradient_BT * log_normaliser_BT)[..., None] * probabilities_BTV
    return (gradient_BTV.astype(logits_BTV.dtype),)


squared_log_normaliser.defvjp(_squared_forward, _squared_backward)
