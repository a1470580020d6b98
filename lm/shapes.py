"""The dimension table: one letter a dimension, the same in array names, specs and parameters.

Imports no jax, so that what reads only letters starts at once.
"""

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from jax import Array
else:
    Array = Any  # jaxtyping then checks the shape and dtype of any array

DIMENSIONS = {
    'B': 'batch rows',
    'T': 'query positions',
    'S': 'key positions',
    'U': "the decoder's positions, where an encoder has its own",
    'D': 'residual width',
    'E': 'width of one direction of a recurrent encoder: half of D',
    'H': 'heads',
    'G': 'key/value groups',
    'K': 'per-head width',
    'F': 'feed-forward width',
    'V': 'vocabulary, padded',
    'L': 'layers',
    'I': 'layers after the first',
    'M': 'microbatches',
    'P': 'learned positions',
    'R': 'relative-position buckets',
    'Y': 'token types',
    'Q': 'gates of a recurrent cell',
    'O': 'labels',
}
"""Letters of array names (`x_BTD`) and of a parameter's `dims` (`'DHK'`)."""

Params: TypeAlias = dict[str, Array]
"""A model's parameters: one array a path, such as `decoder/layers/attention/query`."""

Dims: TypeAlias = dict[str, str]
"""The dimension letters of each parameter, by the same paths as `Params`."""

TokensBT: TypeAlias = Int[Array | np.ndarray, 'B T']
HiddenBTD: TypeAlias = Float[Array, 'B T D']
LogitsBTV: TypeAlias = Float[Array, 'B T V']
MaskBTS: TypeAlias = Bool[Array, '#B T S']
Scalar: TypeAlias = Float[Array, '']


STACKED = 'LIQ'
"""Letters along which parameters are stacked, each a matrix or a vector by itself."""


def space_axes(dims: str) -> tuple[tuple[int, ...], ...]:
    """The axes of each space that a parameter runs between, its layers and gates aside.

    Heads and the width of one are a space together: `LDHK` is of (1,) and (2, 3). A recurrent
    cell's `LDQD` is a matrix for each gate, of (1,) and (3,).
    """
    spaces = re.finditer(f'HK|GK|[^{STACKED}]', dims)
    return tuple(tuple(range(*found.span())) for found in spaces)


def is_matrix(dims: str) -> bool:
    """Whether a parameter is a matrix between two spaces: what decays, what Adafactor factors.

    Judged by its letters without those it is stacked along: `DHK`, `HKD`, `DF`, `VD`, `PD` are;
    norms (`D`), biases (`HK`, `F`) and the relative-position table (`RH`, a bias on scores) are
    not. The number of axes cannot tell: a stacked bias, `LF` or `LQD`, has as many as a matrix.
    """
    return len(space_axes(dims)) >= 2 and 'R' not in dims
