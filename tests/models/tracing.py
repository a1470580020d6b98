"""Looking into traced programs."""

from collections.abc import Iterator
from typing import Any

from jax.extend import core


def equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Every equation of a jaxpr and of those inside it, and how often it runs.

    Of branches, of which one runs, the last: where they are for platforms, the others' default.
    """
    for equation in jaxpr.eqns:
        yield equation, times
        repeats = equation.params.get('length', 1) if equation.primitive.name == 'scan' else 1
        values = (*equation.params.values(), *equation.params.get('branches', ())[-1:])
        for value in values:
            inner = value if isinstance(value, core.Jaxpr) else getattr(value, 'jaxpr', None)
            if inner is not None:
                yield from equations(inner, times * repeats)
