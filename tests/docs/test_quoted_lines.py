"""The lines that the guide to troubleshooting quotes are lines that the code says."""

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / 'docs' / 'guides' / 'troubleshooting.md'
LEAST = 0.5
"""Share of a line that is the code's own text; less would match anything."""


@cache
def templates() -> list[tuple[int, re.Pattern[str]]]:
    """Every text of the code, values left open, and how much of it is not."""
    found = {}
    for package in ('lm', 'launch'):
        for path in (ROOT / package).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                fixed, pattern = _parts(node)
                if fixed > 10:
                    found[pattern] = fixed, re.compile(pattern)
    return [*found.values()]


def _parts(node: ast.AST) -> tuple[int, str]:
    """How much of a text is fixed, and a pattern of it."""
    if isinstance(node, ast.JoinedStr):
        parts = [_parts(value) for value in node.values]
        return sum(fixed for fixed, _ in parts), ''.join(pattern for _, pattern in parts)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return len(node.value), re.escape(node.value)
    return 0, '.*'


def quoted() -> list[str]:
    cells = re.findall(r'^\| `([^`]+)`', PAGE.read_text(encoding='utf-8'), re.MULTILINE)
    return [cell for cell in cells if ' ' in cell]


def said(line: str) -> bool:
    """Whether the code says a line."""
    return any(
        fixed >= LEAST * len(line) and pattern.fullmatch(line) for fixed, pattern in templates()
    )


def test_there_are_lines_and_a_line_that_nobody_says_is_seen() -> None:
    assert len(quoted()) > 25
    assert not said('workdir=runs/x: holds a run that differs from this one; give another workdir')
    assert not said('model.num_heads=3: does not divide model.d_model=128')
    assert not said(
        'train.steps=5: the run in x was planned for 9; a smaller one needs another dir'
    )


@pytest.mark.parametrize('line', quoted())
def test_a_quoted_line_is_one_that_the_code_says(line: str) -> None:
    assert said(line)
