"""The operations of a compiled program, with what each computes and moves."""

import math
import re
from dataclasses import dataclass

from lm.planning.collectives import ARRAY, BYTES, computations

_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$')
_OPERAND = re.compile(r'%([\w.\-]+)')
_CALLS = re.compile(r'calls=%?([\w.\-]+)')
_CONTRACTED = re.compile(r'"?lhs_contracting_dim(?:ension)?s"?[=:][\[{]([^\]}]*)[\]}]')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_FREE = ('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional')


@dataclass(frozen=True)
class Operation:
    """What one operation does each time it runs.

    Attributes:
      name: in the program's text and in a trace.
      source: where it comes from in the traced function.
      flops: of the matrix products in it, two a multiply and add; those of attention's kernels are
        not seen.
      bytes: of the arrays it reads and writes, each once and whole.
    """

    name: str
    source: str
    flops: float
    bytes: float


def operations(hlo: str) -> dict[str, Operation]:
    """By name, the operations of a compiled program's text, `compiled.as_text()`.

    Those inside a fusion are part of it. What is read of a slice counts whole, so `bytes` is at
    most what is asked of the memory, or more.
    """
    _, lines = computations(hlo)
    parsed = {
        name: [match.groups() for line in body if (match := _INSTRUCTION.match(line))]
        for name, body in lines.items()
    }
    shapes = {name: shape for body in parsed.values() for name, shape, _, _ in body}
    fused = {called for body in lines.values() for line in body for called in _fused(line)}

    def flops(kind: str, shape: str, rest: str) -> float:
        if kind == 'fusion':
            called = _CALLS.search(rest)
            inner = parsed.get(called[1], ()) if called else ()
            return sum(flops(kind, shape, rest) for _, shape, kind, rest in inner)
        contracted = _CONTRACTED.search(rest)
        if contracted is None or kind not in ('dot', 'custom-call'):
            return 0.0
        left = _sizes(shapes[_OPERAND.findall(rest)[0]])[0][1]
        numbers = re.findall(r'\d+', contracted[1])
        return 2.0 * math.prod(_sizes(shape)[0][1]) * math.prod(left[int(n)] for n in numbers)

    found = {}
    for computation, body in parsed.items():
        if computation in fused:
            continue
        for name, shape, kind, rest in body:
            if kind in _FREE:
                continue
            read = _OPERAND.findall(rest.split(')')[0])
            moved = _bytes(shape) + sum(_bytes(shapes[x]) for x in read if x in shapes)
            source = _SOURCE.search(rest)
            told = source[1] if source else kind
            found[name] = Operation(name, told, flops(kind, shape, rest), moved)
    return found


def _fused(line: str) -> list[str]:
    return _CALLS.findall(line) if ' fusion(' in line else []


def _sizes(shape: str) -> list[tuple[str, list[int]]]:
    """Type and dimensions of each array in a shape."""
    return [
        (kind, [int(size) for size in dims.split(',') if size])
        for kind, dims in ARRAY.findall(shape)
    ]


def _bytes(shape: str) -> float:
    return float(sum(BYTES.get(kind, 0) * math.prod(dims) for kind, dims in _sizes(shape)))
