"""The state as a table: a line for each parameter, with its shape, split and bytes a device."""

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
        # As it is updated: of the three no other is split more.
        split = split_words(functional.dims[path], program.placement.updated[path])
        row = [path, functional.dims[path], shape, *map(_held, shares), split if on_mesh else '']
        rows.append(row)
    return [*_notes(program), *_aligned([*rows, *_totals(parts)])]


def _notes(program: Program) -> list[str]:
    """What differs by part: an axis that splits some only, as a stage of ZeRO does; the memory."""
    placement = program.placement
    trees = (placement.params, placement.gradients, placement.updated)
    lines = []
    for axis in program.layout.mesh.axis_names:
        split = [
            part
            for part, tree in zip(PARTS, trees, strict=True)
            if any(axis in sharding.spec for sharding in tree.values())
        ]
        if 0 < len(split) < len(PARTS):
            lines.append(f'{axis} splits {" and ".join(split)} only')
    if placement.offloads:
        lines.append('optimizer state is in host memory, but for the counters')
    return lines


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
