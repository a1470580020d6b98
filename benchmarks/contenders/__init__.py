"""Who is compared: one file each, whose `build(case, words)` gives its steps.

A file whose name begins with `_` is no contender.
"""

import importlib
import pkgutil
from typing import Any, Protocol

from benchmarks._cases import Case
from lm.config import require


class Steps(Protocol):
    """A contender's training step on random tokens."""

    @property
    def facts(self) -> dict[str, Any]:
        """Device, dtypes, kernels, versions, memory taken: what a reader of its figure needs."""
        ...

    def compile(self) -> None:
        """All that needs doing once; JAX's contenders take none of the device's memory yet."""
        ...

    def take(self, steps: int) -> None:
        """Takes so many steps, batches coming from the host, and waits for the last one."""
        ...


def names() -> list[str]:
    """Of all contenders; imports none of them."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return [name for name in found if not name.startswith('_')]


def serves(name: str, case: Case) -> bool:
    """Whether it has a model of the case's family."""
    return case.family in {'bare': ('llama',), 'nanogpt_like': ('gpt2',)}.get(name, (case.family,))


def build(name: str, case: Case, words: list[str]) -> Steps:
    """The contender's steps; `words` are flags of `lm` alone.

    Raises:
      UserError: it cannot do the case.
    """
    require(serves(name, case), f'--contenders={name}: has no {case.family}')
    steps: Steps = importlib.import_module(f'{__name__}.{name}').build(case, words)
    return steps
