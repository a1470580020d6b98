"""A model whose matrices were rounded to int8 after training: how a workdir holds it.

A checkpoint has each matrix as int8 and beside it its scale, fp32, under the same path and
`SCALE`; norms and biases are as they were.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from lm.errors import UserError
from lm.precision.policy import INT8, Policy
from lm.precision.quantization import QArray, quantized, rounds, shared_axes
from lm.shapes import Dims, Params
from lm.training.workdir import Workdir

SCALE = '.scale'
"""Behind a parameter's path: that of its scale."""


def is_quantized(workdir: Workdir) -> bool:
    """Whether a workdir holds a quantized model.

    Raises:
      UserError: what it tells of its conversion cannot be read.
    """
    file = workdir.conversion_file
    if not file.exists():
        return False
    try:
        told: Mapping[str, Any] = json.loads(file.read_text(encoding='utf-8'))
        return told.get('quantize') == INT8
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f'{file}: cannot be read ({error})') from error


def rounded_params(params: Params, dims: Dims, policy: Policy) -> Params:
    """Parameters with their matrices in int8, and scales, as a checkpoint holds them.

    Of a policy that trains with int8 weights they are the very numbers that its products read.
    """
    made = {}
    for path, x in params.items():
        if not rounds(dims[path]):
            made[path] = x
            continue
        if _trains_in_int8(policy):
            x = x.astype(policy.compute_dtype)
        shared = shared_axes(dims[path])
        array = quantized(x, INT8, shared)
        made |= {path: array.qvalue, path + SCALE: array.scale}
    return made


def held_shapes(shapes: Mapping[str, Any], dims: Dims) -> dict[str, jax.ShapeDtypeStruct]:
    """What `rounded_params` makes of parameters of these shapes."""
    held = {}
    for path, x in shapes.items():
        if rounds(dims[path]):
            shared = shared_axes(dims[path])
            scale = tuple(1 if i in shared else n for i, n in enumerate(x.shape))
            held[path] = jax.ShapeDtypeStruct(x.shape, jnp.int8)
            held[path + SCALE] = jax.ShapeDtypeStruct(scale, jnp.float32)
        else:
            held[path] = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return held


def joined(held: Params) -> dict[str, Any]:
    """Parameters as a model takes them: of those with a scale, number and scale together."""
    return {
        path: QArray(x, held[path + SCALE]) if path + SCALE in held else x
        for path, x in held.items()
        if not path.endswith(SCALE)
    }


def policy_of_quantized(policy: Policy) -> Policy:
    """How a quantized model computes: as it was trained, or with weights made floats again."""
    return policy if _trains_in_int8(policy) else replace(policy, quantization=None)


def _trains_in_int8(policy: Policy) -> bool:
    return policy.quantization is not None and policy.quantization.weights == INT8
