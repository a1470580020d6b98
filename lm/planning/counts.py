"""How many parameters a model has, by group, and by the conventions of the literature."""

import math
from collections import Counter
from dataclasses import dataclass

from lm.planning.parameters import Model
from lm.shapes import is_matrix

TABLES = 'VPYR'
"""Letters of what is looked up by an id or scores one: tokens, places, types, distances."""


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters. Rows that pad the vocabulary are no parameters of the model.

    Attributes:
      total: all, a tied matrix counted once; as published model sizes are.
      non_embedding: without the tables of tokens, positions, types and relative distances,
        without the output matrix and its bias: norms and biases of the layers are in. This is
        the N of scaling laws (Kaplan et al. 2020, section 2.1, up to norms and biases).
      matmul: matrices that multiply activations, without the output matrix; the column
        `matmul_params_no_embed` of published tables.
      head: the output matrix, whether tied or not, without padding.
      padding: entries of the arrays that only pad the vocabulary.
      by_group: `total` split by the role of the parameter, e.g. `decoder/attention`.
    """

    total: int
    non_embedding: int
    matmul: int
    head: int
    padding: int
    by_group: dict[str, int]


def count_parameters(model: Model) -> ParameterCount:
    """Counts the arrays that the model is built of; nothing is allocated."""
    sizes = parameter_sizes(model)
    dims = model.dims
    kept = {path for path, letters in dims.items() if not set(letters) & set(TABLES)}
    by_group: Counter[str] = Counter()
    for path, size in sizes.items():
        by_group[_group(path)] += size
    held = sum(math.prod(shape.shape) for shape in model.shapes.values())
    return ParameterCount(
        total=sum(sizes.values()),
        non_embedding=sum(sizes[path] for path in kept),
        matmul=sum(sizes[path] for path in kept if is_matrix(dims[path])),
        head=model.config.tokens * model.config.d_model,
        padding=held - sum(sizes.values()),
        by_group=dict(by_group),
    )


def parameter_sizes(model: Model) -> dict[str, int]:
    """The number of parameters at each path, without the vocabulary's padding."""
    return {
        path: math.prod(
            model.config.tokens if letter == 'V' else size
            for letter, size in zip(model.dims[path], shape.shape, strict=True)
        )
        for path, shape in model.shapes.items()
    }


def _group(path: str) -> str:
    """`decoder/layers/attention/query` -> `decoder/attention`; both norms of a layer are one."""
    side, *rest = path.split('/')
    if side not in ('encoder', 'decoder'):
        return side
    role = rest[1] if rest[0] == 'layers' else rest[0]
    return f'{side}/norms' if role.endswith('_norm') else f'{side}/{role}'
