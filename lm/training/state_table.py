"""The state as a table: a line for each parameter, with its shape, split and bytes a device."""

from jax.sharding import NamedSharding

from lm.training.program import Program
from lm.training.state_parts import PARTS, Share, StateParts, split_words, state_parts


def state_table(program: Program) -> list[str]:
    """Path, dims, shape, and bytes a device of parameter, gradient and optimizer state.

    On a mesh also how it is split. The last lines add up what a device holds, and what the host
    holds for it; activations apart.
    """
    parts, functional = state_parts(program), program.functional
    on_mesh = program.layout.mesh.size > 1
    rows = [['bytes a device', 'dims', 'shape', *PARTS, 'split' if on_mesh else '']]
    for path, x in functional.shapes.items():
        shares = [parts.by_path[part][path] for part in PARTS]
        shape = 'x'.join(map(str, x.shape))
        split = split_words(functional.dims[path], _most_split(shares))
        row = [path, functional.dims[path], shape, *map(_held, shares), split if on_mesh else '']
        rows.append(row)
    return [*_notes(program, parts), *_aligned([*rows, *_totals(parts)])]


def _notes(program: Program, parts: StateParts) -> list[str]:
    """What differs by part: an axis that splits some only, as a stage of ZeRO does; the memory."""
    held = [part for part in PARTS if parts.of(part).arrays]
    lines = []
    for axis in program.layout.mesh.axis_names:
        split = [part for part in held if axis in _axes(parts.of(part))]
        if 0 < len(split) < len(held):
            lines.append(f'{axis} splits {" and ".join(split)} only')
    if parts.all.host_bytes:
        lines.append('optimizer state is in host memory, but for the counters')
    return lines


def _axes(share: Share) -> set[str]:
    """Axes of the mesh that split some of the arrays."""
    entries = [entry for x in share.arrays for entry in x.sharding.spec if entry]
    return {axis for entry in entries for axis in ((entry,) if isinstance(entry, str) else entry)}


def _most_split(shares: list[Share]) -> NamedSharding:
    """The sharding of a parameter, its gradient or its moments that splits it the most."""
    shape = shares[0].arrays[0].shape
    alike = [x.sharding for share in shares for x in share.arrays if x.shape == shape]
    return max(alike, key=lambda sharding: sum(entry is not None for entry in sharding.spec))


def _totals(parts: StateParts) -> list[list[str]]:
    whole = [parts.of(part) for part in PARTS]
    rows = [
        ['counters', '', '', '', '', f'{parts.counters.device_bytes:,}', ''],
        [
            'a device holds', '', '', *(f'{share.device_bytes:,}' for share in whole),
            f'{parts.all.device_bytes:,} in all',
        ],
    ]  # fmt: skip
    if parts.all.host_bytes:
        rows.append(
            [
                'in host memory', '', '', *(f'{share.host_bytes:,}' for share in whole),
                f'{parts.all.host_bytes:,} for each device',
            ]
        )  # fmt: skip
    return rows


def _held(share: Share) -> str:
    return f'{share.device_bytes + share.host_bytes:,}'


def _aligned(rows: list[list[str]]) -> list[str]:
    """Names, dims and words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place in (0, 1, len(row) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f'  {"  ".join(cells)}'.rstrip())
    return lines
