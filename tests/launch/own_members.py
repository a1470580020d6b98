"""A user's own model, objective and optimizer, and a run of them, in one file outside `lm`.

The model is the neural probabilistic language model of Bengio et al. 2003 (equation 1, without
the direct connections); the objective smooths its targets (Szegedy et al. 2016, section 7); the
optimizer is RMSProp.
"""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import lm
from lm.config import Config, ModelConfig, ObjectiveConfig, OptimConfig, TrainConfig, setting
from lm.objectives import clm
from lm.objectives._objective import Sums


@dataclasses.dataclass(frozen=True)
class Window:
    """Options of the model."""

    order: int = setting(3, 'tokens that it looks back on')


class ProbabilisticModel(nnx.Module):
    """y = b + U tanh(d + H x), where x are the vectors of the last tokens."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        v, d, f, n = config.padded_vocab_size, config.d_model, config.d_ff, config.options.order
        normal = jax.random.normal
        self.vocab_size = config.tokens
        self.tokens = nnx.Param(0.1 * normal(rngs.params(), (v, d)), dims='VD')
        self.hidden = nnx.Param((n * d) ** -0.5 * normal(rngs.params(), (n, d, f)), dims='NDF')
        self.hidden_bias = nnx.Param(jnp.zeros((f,)), dims='F')
        self.output = nnx.Param(f**-0.5 * normal(rngs.params(), (f, v)), dims='FV')
        self.output_bias = nnx.Param(jnp.zeros((v,)), dims='V')

    def __call__(self, batch, *, layout, compute_dtype, dropout_key=None):
        """Logits, fp32 [B, T, V]."""
        x_BTD = jnp.take(self.tokens[...], batch.tokens, axis=0).astype(compute_dtype)
        h_BTF = self.hidden_bias[...].astype(compute_dtype)
        for back, weight_DF in enumerate(self.hidden[...].astype(compute_dtype)):
            shifted_BTD = jnp.roll(x_BTD, back, axis=1)
            there_BT = jnp.asarray(batch.positions) >= back
            h_BTF += jnp.where(there_BT[..., None], shifted_BTD, 0) @ weight_DF
        logits_BTV = jnp.tanh(h_BTF) @ self.output[...].astype(compute_dtype)
        logits_BTV = logits_BTV.astype(jnp.float32) + self.output_bias[...]
        return jnp.where(jnp.arange(logits_BTV.shape[-1]) < self.vocab_size, logits_BTV, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """Options of the objective."""

    smoothing: float = setting(0.1, 'share of the target that all tokens have in common')


class SmoothedCausalLM(clm.CausalLM):
    """Causal language modelling towards smoothed targets."""

    smoothing = 0.0

    def loss(self, logits_BTV, batch):
        """(1 - s) of the usual nats, and s of the mean over all tokens."""
        usual = super().loss(logits_BTV, batch)
        log_p_BTV = jax.nn.log_softmax(logits_BTV)
        finite_BTV = jnp.isfinite(log_p_BTV)
        mean_BT = jnp.where(finite_BTV, log_p_BTV, 0).sum(-1) / finite_BTV.sum(-1)
        spread = -(mean_BT * batch.loss_weights).sum()
        return Sums((1 - self.smoothing) * usual.loss + self.smoothing * spread, usual.weight)


def smoothed(options, vocabulary, seq_len):
    """The objective for rows of `seq_len` tokens."""
    objective = SmoothedCausalLM(vocabulary, target_len=seq_len, factorises=False)
    object.__setattr__(objective, 'smoothing', options.smoothing)
    return objective


@dataclasses.dataclass(frozen=True)
class RMSProp:
    """Options of the optimizer."""

    decay: float = setting(0.9, 'of the mean of squared gradients')


def rmsprop(config, learning_rate, dims):
    """RMSProp by optax."""
    return optax.rmsprop(learning_rate, decay=config.options.decay, eps=config.eps)


lm.register(
    'models',
    'nplm',
    SimpleNamespace(FAMILY='decoder', Options=Window, build=ProbabilisticModel),
)
lm.register(
    'objectives',
    'smoothed_clm',
    SimpleNamespace(FAMILIES=('decoder',), Options=Smoothing, build=smoothed),
)
lm.register('optimizers', 'rmsprop', SimpleNamespace(Options=RMSProp, build=rmsprop))


def config(preset: str = '') -> Config:
    """A run of seconds."""
    del preset
    return Config(
        model=ModelConfig(
            name='nplm', d_model=16, d_ff=32, vocab_size=400, options=Window(order=4)
        ),
        objective=ObjectiveConfig('smoothed_clm'),
        optim=OptimConfig(name='rmsprop', peak_lr=1e-2, warmup_steps=2),
        train=TrainConfig(steps=20, batch_size=8, seq_len=32),
    )
