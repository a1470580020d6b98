"""Tiny models and batches for tests. No two dimensions are of one size, so mix-ups show."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lm import registry
from lm.batch import Batch
from lm.config import ModelConfig
from lm.models.functional import Functional, functional
from lm.precision.policy import POLICIES
from lm.shapes import Params

RECURRENT = ('gru', 'gru_seq2seq', 'lstm', 'lstm_seq2seq')
"""Architectures without heads, positions and feed-forward layers."""
VOCABULARY = 37
LENGTH, DECODER_LENGTH = 12, 10


def tiny(name: str, policy: str = 'fp32', **changes: Any) -> Functional:
    """A small model of an architecture. Changed options are given as `options={'field': value}`."""
    options = registry.lookup('models', name, 'model.name').Options(**changes.pop('options', {}))
    sizes: dict[str, Any] = {
        'num_layers': 2,
        'd_model': 16,
        'num_heads': 6,
        'num_kv_heads': 3,
        'head_dim': 4,
        'd_ff': 20,
        'vocab_size': VOCABULARY,
        'vocab_multiple': 8,
        'max_positions': 18,
    }
    config = ModelConfig(name=name, options=options, **read_by(name, {**sizes, **changes}))
    return functional(config, POLICIES[policy])


def read_by(name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """The sizes that an architecture does not refuse."""
    if name not in RECURRENT:
        return sizes
    refused = {'num_kv_heads', 'head_dim', 'd_ff'}
    return {'num_heads': 1} | {f: x for f, x in sizes.items() if f not in refused | {'num_heads'}}


def perturbed(model: Functional, seed: int = 0, noise: float = 0.3) -> Params:
    """Parameters with noise on all, also on biases and norms' scales, which begin at 0 and 1."""
    rng = np.random.default_rng(seed)
    return {
        path: jnp.asarray(
            path.endswith('/scale') + noise * rng.standard_normal(shape.shape), shape.dtype
        )
        for path, shape in model.shapes.items()
    }


def side(segment_lengths: list[int], length: int, tokens: np.ndarray) -> list[np.ndarray]:
    """Tokens, segment ids and positions of one row, [1, T] each, padded with segment 0."""
    segments = np.zeros((1, length), np.int32)
    positions = np.zeros((1, length), np.int32)
    start = 0
    for index, size in enumerate(segment_lengths):
        segments[0, start : start + size] = index + 1
        positions[0, start : start + size] = np.arange(size)
        start += size
    return [tokens[None, :length].astype(np.int32), segments, positions]


def packed_batch(model: Functional, seed: int = 0) -> Batch:
    """One row of two segments and padding; no token id comes twice, on either side."""
    ids = np.random.default_rng(seed).permutation(VOCABULARY)
    fields = side([5, 4], LENGTH, ids)
    if model.family == 'encoder_decoder':
        fields += side([3, 5], DECODER_LENGTH, ids[LENGTH:])
    return Batch(*fields)


def predicting(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segment ids of the side whose positions have logits."""
    if batch.decoder_tokens is None:
        return np.asarray(batch.tokens), np.asarray(batch.segment_ids)
    return np.asarray(batch.decoder_tokens), np.asarray(batch.decoder_segment_ids)
