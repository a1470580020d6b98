"""Arrays stacked along the layers, and the same with their layers apart."""

from typing import Any, NamedTuple, TypeAlias

import jax

Index: TypeAlias = jax.Array | int
"""The number of a layer: traced in a scan, known where each layer has its own code."""


class Apart(NamedTuple):
    """A stacked array with its layers apart, each an array of its own.

    What computes with one layer of a stack at a time may have to copy it out of the stack first:
    XLA does so on CPUs, at every token that is decoded.
    """

    layers: tuple[jax.Array, ...]


def taken_apart(stack: jax.Array) -> Apart:
    """A stack [L, ...] as L arrays."""
    return Apart(tuple(part[0] for part in jax.lax.split(stack, (1,) * len(stack))))


def unstacked(layers: Any, num_layers: int) -> list[Any]:
    """A tree of stacks, or of what is apart already, as a tree for each layer.

    Split, not indexed: the gradient of a split is one concatenation, that of L indexings is a
    sum of L arrays each as large as all layers.
    """
    leaves, structure = jax.tree.flatten(layers, is_leaf=_is_apart)
    parts = [(x if _is_apart(x) else taken_apart(x)).layers for x in leaves]
    return [jax.tree.unflatten(structure, [part[i] for part in parts]) for i in range(num_layers)]


def are_apart(layers: Any) -> bool:
    """Whether stacks in a tree were taken apart."""
    return any(map(_is_apart, jax.tree.leaves(layers, is_leaf=_is_apart)))


def _is_apart(x: Any) -> bool:
    return isinstance(x, Apart)
