"""Which parameters weight decay acts on."""

from lm.shapes import Dims, is_matrix


def decays(dims: Dims) -> dict[str, bool]:
    """True for the matrices, by their dimension letters: stacked layers change nothing."""
    return {path: is_matrix(letters) for path, letters in dims.items()}
