"""Precision policies: which number format each part of a run is kept and computed in."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@dataclass(frozen=True)
class Policy:
    """The number formats of a run.

    Attributes:
      name: as in `precision.policy`.
      param_dtype: parameters at rest, gradients and optimizer moments.
      compute_dtype: activations and the operands of matrix products.
      logits_dtype: of the logits that a training step keeps for its backward pass; their softmax
        and loss are fp32 all the same.
      matmul_precision: `highest` means fp32 multiplies; JAX's own default is bf16 passes on TPU
        and TF32 on recent GPUs.

    Softmax, norms and losses are fp32 under every policy; so are logits outside a training step.
    """

    name: str
    param_dtype: DTypeLike
    compute_dtype: DTypeLike
    logits_dtype: DTypeLike
    matmul_precision: str


POLICIES = {
    'fp32': Policy('fp32', jnp.float32, jnp.float32, jnp.float32, 'highest'),
    'bf16_mixed': Policy('bf16_mixed', jnp.float32, jnp.bfloat16, jnp.bfloat16, 'default'),
}


def default_policy_name(platform: str | None = None) -> str:
    """What `precision.policy=auto` stands for here: bf16 is emulated, and slow, on CPU."""
    return 'fp32' if (platform or jax.default_backend()) == 'cpu' else 'bf16_mixed'
