"""A LLaMA as one function of a dict of arrays, with nothing round it: what JAX alone takes.

Layers unrolled, the cross-entropy's backward pass written out, XLA's attention or, in bf16 on a
GPU, cuDNN's; no segments, no mask but the causal one, no sharding, no metrics but the loss, unread.
"""

import functools
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._cases import Case
from benchmarks._lm_steps import HELD
from benchmarks._machine import jax_peak, versions

Params = dict[str, jax.Array]


def init(case: Case, key: jax.Array) -> Params:
    """fp32 weights by name."""
    d, f, v, k = case.width, case.feed_forward, case.vocabulary, case.width // case.heads
    shapes = {'embedding': (v, d), 'output': (d, v)}
    for i in range(case.layers):
        shapes |= {f'{i}/query': (d, case.heads, k), f'{i}/key': (d, case.kv_heads, k)}
        shapes |= {f'{i}/value': (d, case.kv_heads, k), f'{i}/attended': (case.heads, k, d)}
        shapes |= {f'{i}/gate': (d, f), f'{i}/up': (d, f), f'{i}/down': (f, d)}
    keys = jax.random.split(key, len(shapes))
    made = {
        name: 0.02 * jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    norms = ['norm', *(f'{i}/{j}_norm' for i in range(case.layers) for j in ('first', 'second'))]
    return made | {name: jnp.ones(d) for name in norms}


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Statistics in fp32."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-5)
    return y.astype(x.dtype) * scale.astype(x.dtype)


def rotate(x_BTHK: jax.Array) -> jax.Array:
    """Rotary positions, by halves."""
    length, width = x_BTHK.shape[1], x_BTHK.shape[-1]
    rates = 10_000.0 ** -(jnp.arange(0, width, 2) / width)
    angles = jnp.arange(length)[:, None, None] * rates
    cos, sin = jnp.cos(angles).astype(x_BTHK.dtype), jnp.sin(angles).astype(x_BTHK.dtype)
    a, b = jnp.split(x_BTHK, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


@jax.custom_vjp
def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean nats; keeps the logits as they are and one number a place."""
    return _forward(logits, targets)[0]


def _forward(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
    total = jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.mean(total - chosen.astype(jnp.float32)), (logits, total, targets)


def _backward(kept: Any, gradient: jax.Array) -> tuple[jax.Array, None]:
    logits, total, targets = kept
    shares = jnp.exp(logits.astype(jnp.float32) - total[..., None])
    hit = targets[..., None] == jnp.arange(logits.shape[-1])
    return ((shares - hit) * (gradient / targets.size)).astype(logits.dtype), None


cross_entropy.defvjp(_forward, _backward)


def loss(
    case: Case, attention: str, params: Params, tokens: jax.Array, targets: jax.Array
) -> jax.Array:
    """Mean nats of a batch, int32 [B, T]."""
    dtype = jnp.bfloat16 if case.bf16 else jnp.float32
    w = {name: x.astype(dtype) for name, x in params.items()}
    x = w['embedding'][tokens]
    for i in range(case.layers):
        y = rms_norm(x, w[f'{i}/first_norm'])
        query = rotate(jnp.einsum('BTD,DHK->BTHK', y, w[f'{i}/query']))
        key = rotate(jnp.einsum('BTD,DGK->BTGK', y, w[f'{i}/key']))
        value = jnp.einsum('BTD,DGK->BTGK', y, w[f'{i}/value'])
        y = jax.nn.dot_product_attention(
            query, key, value, is_causal=True, implementation=attention
        )
        x = x + jnp.einsum('BTHK,HKD->BTD', y, w[f'{i}/attended'])
        y = rms_norm(x, w[f'{i}/second_norm'])
        x = x + (jax.nn.silu(y @ w[f'{i}/gate']) * (y @ w[f'{i}/up'])) @ w[f'{i}/down']
    return cross_entropy(rms_norm(x, w['norm']) @ w['output'], targets)


class BareSteps:
    """Its jitted step, the state donated."""

    def __init__(self, case: Case) -> None:
        self._case = case
        gpu = jax.devices()[0].platform == 'gpu'
        self._attention = 'cudnn' if gpu and case.bf16 else 'xla'
        rng = np.random.default_rng(0)
        size = (HELD, case.rows, case.seq_len + 1)
        held = rng.integers(108, case.vocabulary, size).astype(np.int32)
        self._held = held[0, :, :-1]
        self._batches = itertools.cycle([(rows[:, :-1], rows[:, 1:]) for rows in held])
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(1e-4, 0.9, 0.95, weight_decay=0.1)
        )
        self._optimizer, self._state, self._seconds = optimizer, None, 0.0

        def step(state: Any, tokens: jax.Array, targets: jax.Array) -> tuple[Any, jax.Array]:
            params, kept = state
            of_params = functools.partial(loss, case, self._attention)
            nats, gradients = jax.value_and_grad(of_params)(params, tokens, targets)
            updates, kept = optimizer.update(gradients, kept, params)
            return (optax.apply_updates(params, updates), kept), nats

        self._jitted = jax.jit(step, donate_argnums=0)

    def _init(self) -> Any:
        params = init(self._case, jax.random.key(0))
        return params, self._optimizer.init(params)

    @property
    def facts(self) -> dict[str, Any]:
        compute = 'bfloat16' if self._case.bf16 else 'float32'
        return {
            'device': jax.devices()[0].device_kind,
            'dtypes': {'params': 'float32', 'compute': compute},
            'attention': self._attention,
            'compile_seconds': self._seconds,
            **jax_peak(),
            'versions': versions('jax', 'jaxlib', 'optax'),
        }

    def compile(self) -> None:
        begin = time.perf_counter()
        state = jax.eval_shape(self._init)
        self._step = self._jitted.lower(state, self._held, self._held).compile()
        self._seconds = time.perf_counter() - begin

    def take(self, steps: int) -> None:
        state = jax.jit(self._init)() if self._state is None else self._state
        for _ in range(steps):
            state, _ = self._step(state, *next(self._batches))
        self._state = jax.block_until_ready(state)


def build(case: Case, words: list[str]) -> BareSteps:
    """Its steps."""
    del words
    return BareSteps(case)
