"""A laboratory for pre-training language models. Imports nothing until a name is asked for."""

import importlib
from typing import Any

__version__ = '0.1.0'

_EXPORTS = {
    'UserError': 'lm.errors',
    'describe': 'lm.training.run',
    'generate': 'lm.generation.sample',
    'load': 'lm.training.load',
    'load_config': 'lm.named_configs',
    'plan': 'lm.planning.plan',
    'register': 'lm.registry',
    'rows_of_step': 'lm.training.shown_rows',
    'train': 'lm.training.run',
}

_PACKAGES = {'inspection', 'scaling'}
"""Packages that are there without an import of their own: `lm.scaling.fit_parametric`."""

__all__ = ['__version__', *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f'{__name__}.{name}')
    if name not in _EXPORTS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS, *_PACKAGES})
