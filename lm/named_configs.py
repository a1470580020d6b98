"""Configs by name: those of `lm/configs`, and those of a user's own files. Imports no jax."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lm import registry
from lm.config import Config
from lm.errors import UserError
from lm.fields import require
from lm.resolution import override, resolve


def load_config(name: str, **overrides: Any) -> Config:
    """A named config, or one from a file, with overrides; validated and resolved.

    Args:
      name: `NAME` of lm/configs, or a `FILE.py`; either with `:preset`.
      **overrides: values by dotted path (`**{'model.d_model': 512}`), or a whole section's
        changes as a dict (`model={'d_model': 512}`).

    Raises:
      UserError: no such config, no such field, or a value that a section refuses.
    """
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            flat.update({f'{key}.{inner}': v for inner, v in value.items()})
        else:
            flat[key] = value
    return resolve(override(named_config(name), flat))


def named_config(name: str) -> Config:
    """The config that `NAME`, `FILE.py`, `NAME:preset` or `FILE.py:preset` stands for.

    Raises:
      UserError: there is none, or a user's file does not run.
    """
    stem, _, preset = name.partition(':')
    if stem.endswith('.py'):
        member = run_file(stem, 'config')
        require(hasattr(member, 'config'), f'config={stem}: defines no config(preset)')
    else:
        member = registry.lookup('configs', stem, 'config')
    config = _running(stem, 'config', lambda: member.config(preset))
    require(isinstance(config, Config), f'config={name}: config(preset) returned no lm Config')
    # Most configs ignore the preset: without this a mistyped one would train something else.
    known = not preset or config != _running(stem, 'config', lambda: member.config(''))
    require(known, f'config={name}: has no preset {preset!r}')
    return config


def run_file(path: str, field: str) -> Any:
    """The module of a user's file, which may register members; `field` names it in errors.

    Raises:
      UserError: there is no such file, or it does not run; with the line.
    """
    require(Path(path).is_file(), f'{field}={path}: no such file')
    spec = importlib.util.spec_from_file_location(f'lm_user_file_{Path(path).stem}', path)
    require(spec is not None and spec.loader is not None, f'{field}={path}: must be a FILE.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look for what it defines
    loader = spec.loader
    _running(path, field, lambda: loader.exec_module(module))
    return module


def _running(path: str, field: str, run: Callable[[], Any]) -> Any:
    """What `run` of a user's file returns; the file's own mistakes are told by line."""
    try:
        return run()
    except UserError:
        raise
    except Exception as error:
        line = getattr(error, 'lineno', None)
        for frame in traceback.extract_tb(error.__traceback__):
            line = frame.lineno if Path(frame.filename) == Path(path).absolute() else line
        raise UserError(f'{field}={path}: line {line}: {type(error).__name__}: {error}') from error
