"""The collectives of a compiled program, with how often each runs and how much it moves."""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

KINDS = (
    'all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute',
    'all-reduce-scatter',
)  # fmt: skip
BYTES = {
    'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2, 's32': 4, 'u32': 4,
    'f32': 4, 's64': 8, 'u64': 8, 'f64': 8,
}  # fmt: skip
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_OPERATION = re.compile(r' = (\(.*?\)|\S+) ([\w\-]+?)(-start)?\((.*)$')
ARRAY = re.compile(r'([a-z]+\d*)\[([\d,]*)\]')
_CALLED = re.compile(
    r'(?:calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_GROUPS = re.compile(r'replica_groups=(?:\[(\d+),(\d+)\]|\{\{([\d,]*)\})')
_MESH_GROUPS = re.compile(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}')
_CONSTANT = re.compile(r' = s(?:32|64)\[\](?:\{[^}]*\})? constant\((\d+)\)')
_CHAIN = re.compile(r'chain_id="(\d+)"')


@dataclass(frozen=True)
class Collective:
    """A collective operation of a program.

    Attributes:
      kind: one of `KINDS`.
      elements: of the whole array that it makes or reduces, over the devices of its group.
      bytes: the same in bytes.
      group: how many devices take part together; 0: all.
      times: how often a run of the program comes by it.
    """

    kind: str
    elements: int
    bytes: int
    group: int
    times: int

    @property
    def moved(self) -> int:
        """Elements that a device sends in a run, as rings do for a large group.

        An all-reduce is a reduce-scatter and an all-gather: twice its size (Rajbhandari et al.
        2020, section 7.1).
        """
        if self.group == 1:
            return 0
        return self.elements * self.times * (2 if self.kind == 'all-reduce' else 1)


def collectives(hlo: str) -> list[Collective]:
    """The collectives of a compiled program's text, `compiled.as_text()`.

    Loops count as often as XLA knows that they run; where it does not say (TPU), up to the one
    number that the loop's condition compares with, as scans count from 0; of other loops, once.
    What XLA spreads over several fusions that run beside it (TPU) counts once.
    """
    entry, lines = computations(hlo)
    times: dict[str, int] = defaultdict(int)

    def visit(name: str, count: int) -> None:
        times[name] += count
        for line in lines.get(name, ()):
            inner = count * _trips(line, lines) if ' while(' in line else count
            called = _CALLED.findall(line)
            for branches in _BRANCHES.findall(line):
                called += [branch.strip().lstrip('%') for branch in branches.split(',')]
            for other in called:
                visit(other, inner)

    visit(entry, 1)
    found = []
    chains = set()
    for name, count in times.items():
        for line in lines.get(name, ()):
            match = _OPERATION.search(line)
            if not match or match[2] not in KINDS:
                continue
            chain = _CHAIN.search(line)
            if chain and chain[1] in chains:
                continue
            if chain:
                chains.add(chain[1])
            kind, group = match[2], _group_size(line)
            elements, size = _whole(match[1], kind, group, bool(match[3]))
            if kind == 'all-reduce' and name.startswith('all-reduce-scatter'):
                kind = 'all-reduce-scatter'  # a fusion on TPU; the sum inside is of whole arrays
            found.append(Collective(kind, elements, size, group, count))
    return found


def _trips(line: str, lines: dict[str, list[str]]) -> int:
    """How often a loop runs."""
    known = _TRIPS.search(line)
    if known:
        return int(known[1])
    condition = re.search(r'condition=%?([\w.\-]+)', line)
    inside = '\n'.join(lines.get(condition[1], ())) if condition else ''
    for called in _CALLED.findall(inside):
        inside += '\n'.join(lines.get(called, ()))
    numbers = _CONSTANT.findall(inside)
    return int(numbers[0]) if len(numbers) == 1 and 'direction=LT' in inside else 1


def computations(hlo: str) -> tuple[str, dict[str, list[str]]]:
    """The name of the entry computation, and the lines of each."""
    lines: dict[str, list[str]] = {}
    entry = name = ''
    for line in hlo.splitlines():
        match = _COMPUTATION.match(line)
        if match:
            name = match[2]
            lines[name] = []
            entry = name if match[1] else entry
        elif name:
            lines[name].append(line)
    return entry, lines


def _whole(result: str, kind: str, group: int, started: bool) -> tuple[int, int]:
    """Elements and bytes of the arrays that a collective's devices hold together."""
    arrays = ARRAY.findall(result)
    if started and (kind == 'all-gather' or result.startswith('((')):  # the operands are in it too
        arrays = arrays[len(arrays) // 2 :]
    if started and kind == 'collective-permute':
        arrays = arrays[1:2]
    elements = sum(math.prod(map(int, filter(None, sizes.split(',')))) for _, sizes in arrays)
    size = sum(
        BYTES.get(dtype, 4) * math.prod(map(int, filter(None, sizes.split(','))))
        for dtype, sizes in arrays
    )
    if kind in ('reduce-scatter', 'all-reduce-scatter'):  # its result is a device's part
        return elements * group, size * group
    return elements, size


def _group_size(line: str) -> int:
    mesh = _MESH_GROUPS.search(line)
    if mesh:
        sizes = dict(axis.split('=') for axis in mesh[1].split(','))
        return math.prod(int(sizes[axis.strip()]) for axis in mesh[2].split(','))
    match = _GROUPS.search(line)
    if match is None:
        return 0
    return int(match[2]) if match[2] else len(match[3].split(','))
