"""The modules of a folder that are its members, found by their files."""

import ast
import functools
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


@functools.cache
def summaries(folder: Path) -> Mapping[str, str]:
    """The first line of each member's docstring, by name; imports none of them.

    Packages, and files whose name begins with `_`, are no members.
    """
    return MappingProxyType(
        {
            module.name: _summary(folder / f'{module.name}.py')
            for module in sorted(pkgutil.iter_modules([str(folder)]), key=lambda m: m.name)
            if not module.ispkg and not module.name.startswith('_')
        }
    )


def table(rows: Mapping[str, str]) -> str:
    """A line for each member: its name, and what it does."""
    width = max(map(len, rows))
    return '\n'.join(f'  {name:<{width}}  {summary}' for name, summary in sorted(rows.items()))


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return docstring.partition('\n')[0]
