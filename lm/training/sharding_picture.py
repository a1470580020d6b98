"""The state drawn: a row for each parameter, cut as the mesh cuts it, and bytes a device."""

import io
from pathlib import Path

import matplotlib

from lm.errors import UserError
from lm.mesh.host_offload import is_in_host_memory
from lm.planning.counts import count_parameters
from lm.training.pieces import Pieces, device_words, pieces
from lm.training.program import Program
from lm.training.sheet import FONT_WIDTH, GREY, INK, LINE, Box, Colour, Sheet, lightened
from lm.training.state_parts import (
    PARTS,
    Share,
    StateParts,
    bytes_words,
    split_words,
    state_parts,
)

MARGIN, LABEL, BOX_WIDTH, GAP = 0.4, 3.1, 2.75, 0.3
BARS_TOP, ROWS_TOP, BAR, CAPTION = 1.0, 3.55, 0.14, 0.27
"""Inches: of columns across, then down."""
MOST_CUTS = 8
"""A side with more pieces shows the first three and the last two."""
COLOURS = dict(zip(PARTS, ('#2f6f9f', '#c8742a', '#4f8a4b'), strict=True))
PALE = '#eeeeec'
SMALL = 6.8
"""Points, of what stands in and under a box."""


def picture(program: Program, path: str | Path) -> None:
    """Draws where the state of a program lies; its arrays are not made.

    Args:
      program: of any mesh.
      path: the file to write, `.svg` or `.png`.

    Raises:
      UserError: the file cannot be written.
    """
    drawn, path = io.BytesIO(), Path(path)
    kind = path.suffix[1:].lower()
    # Text stays text, to be searched and copied, and equal programs make equal files.
    with matplotlib.rc_context(
        {'svg.fonttype': 'none', 'svg.hashsalt': 'lm', 'hatch.linewidth': 0.5}
    ):
        metadata = {'Date': None} if kind == 'svg' else None
        _drawn(program).figure.savefig(drawn, format=kind, dpi=130, metadata=metadata)
    try:
        path.write_bytes(drawn.getvalue())
    except OSError as error:
        raise UserError(f'picture={path}: cannot be written ({error.strerror})') from error


def _drawn(program: Program) -> Sheet:
    parts, dims = state_parts(program), program.functional.dims
    cuts = {
        (part, path): pieces(share.arrays[0])
        for part, shares in parts.by_path.items()
        for path, share in shares.items()
        if share.arrays
    }
    colours = _device_colours(list(cuts.values()))
    # Room for the numbers of up to four pieces, one above the other.
    box_height = 0.15 * max(2, min(4, max(cut.down for cut in cuts.values())))
    pitch, paths = box_height + CAPTION, list(dims)
    width = _left('optimizer state') + BOX_WIDTH + MARGIN
    height = ROWS_TOP + pitch * len(paths) + 0.55
    sheet = Sheet(width, height)
    _draw_title(sheet, program)
    _draw_bars(sheet, parts, program.layout.mesh.size)
    _draw_headings(sheet)
    for row, path in enumerate(paths):
        top = ROWS_TOP + pitch * row
        if row and path.split('/')[0] != paths[row - 1].split('/')[0]:
            sheet.rule(MARGIN, width - MARGIN, top - 0.07)
        _draw_label(sheet, path, dims[path], program.functional.shapes[path].shape, top)
        for part in PARTS:
            share, box = parts.by_path[part][path], (_left(part), top, BOX_WIDTH, box_height)
            if share.arrays:
                hosted = is_in_host_memory(share.arrays[0])
                _draw_pieces(sheet, cuts[part, path], box, colours, hosted)
            _draw_caption(sheet, dims[path], share, box)
    if program.layout.mesh.size > 1:
        _draw_legend(sheet, height - 0.3)
    return sheet


def _left(part: str) -> float:
    return MARGIN + LABEL + PARTS.index(part) * (BOX_WIDTH + GAP)


def _draw_title(sheet: Sheet, program: Program) -> None:
    count, mesh = count_parameters(program.functional), program.layout.mesh
    sizes = ' x '.join(f'{axis} {size}' for axis, size in mesh.shape.items() if size > 1)
    where = f'{program.config.mesh.strategy} on {mesh.size} device' + 's' * (mesh.size > 1)
    name = f'{program.config.model.name}, {count.total:,} parameters'
    sheet.text(MARGIN, 0.4, name, 14, bold=True)
    sheet.text(MARGIN, 0.68, f'{where}: {sizes}' if sizes else where, 10.5, GREY)


def _draw_bars(sheet: Sheet, parts: StateParts, devices: int) -> None:
    """For each part and for all: a device of this mesh, and below it one device alone."""
    left = MARGIN + LABEL
    scale = 2 * (BOX_WIDTH + GAP) / parts.all.whole_bytes
    shares = {**{part: parts.of(part) for part in PARTS}, 'all three': parts.all}
    for place, (name, share) in enumerate(shares.items()):
        top, colour = BARS_TOP + 0.5 * place, COLOURS.get(name, INK)
        sheet.text(left - 0.15, top + BAR, name, 9.5, colour, align='right', bold=True)
        bars = _bars(share, devices)
        top += BAR / 2 if len(bars) == 1 else 0
        for size, words, hatched, alone in bars:
            fill = lightened(colour, 0.7) if alone else colour
            edge = 'white' if hatched else fill
            sheet.box((left, top, size * scale, BAR), fill, edge=edge, hatched=hatched)
            sheet.text(left + size * scale + 0.08, top + BAR / 2, words, 7.5)
            top += BAR + 0.01


def _bars(share: Share, devices: int) -> list[tuple[int, str, bool, bool]]:
    """(bytes, words, in host memory, on one device alone) of each bar of a group."""
    device, host, whole = share.device_bytes, share.host_bytes, share.whole_bytes
    each = f' on each of {devices} devices' if devices > 1 else ''
    bars = []
    if device or not host:
        bars.append((device, f'{bytes_words(device)}{each}', False, False))
    if host:
        bars.append((host, f'{bytes_words(host)} in host memory, for each device', True, False))
    if devices > 1:
        bars.append((whole, f'{bytes_words(whole)} on one device alone', False, True))
    return bars


def _draw_headings(sheet: Sheet) -> None:
    y = ROWS_TOP - 0.2
    sheet.text(MARGIN, y, 'each array, and how it is cut', 9.5, bold=True)
    for part in PARTS:
        sheet.text(_left(part), y, part, 9.5, COLOURS[part], bold=True)
        sheet.text(_left(part) + BOX_WIDTH, y, 'a device holds', 7.5, GREY, align='right')


def _draw_label(sheet: Sheet, path: str, dims: str, shape: tuple[int, ...], top: float) -> None:
    sizes = [f'{letter} {size}' for letter, size in zip(dims, shape, strict=True) if letter != 'L']
    words = ' x '.join(sizes)
    if dims[0] == 'L':
        words += f', x {shape[0]} layers'
    sheet.text(MARGIN, top + 0.09, path, 8.3)
    sheet.text(MARGIN, top + 0.25, words, 7.2, GREY)


def _draw_pieces(
    sheet: Sheet, cut: Pieces, box: Box, colours: dict[int, Colour], hosted: bool
) -> None:
    """The array as a box: whole and pale, or in pieces coloured and numbered by their devices."""
    left, top, width, height = box
    if cut.count == 1:
        devices = len(cut.holders[0, 0])
        words = f'on all {devices}' if devices > 1 else 'on the one device'
        sheet.box(box, PALE, hatched=hosted)
        sheet.text(left + width / 2, top + height / 2, words, 7, GREY, align='center')
        return
    if cut.across > MOST_CUTS:
        middle = left + width * 4.5 / MOST_CUTS
        sheet.box(box, 'white', edge=LINE)
        sheet.text(middle, top + height / 2, f'{cut.count} pieces', 7, GREY, align='center')
    for row, y, down in _slots(cut.down):
        for column, x, across in _slots(cut.across):
            holders = cut.holders[row, column]
            piece = (left + x * width, top + y * height, across * width, down * height)
            sheet.box(piece, colours[holders[0]], hatched=hosted)
            if piece[3] > 0.12:
                middle = piece[0] + piece[2] / 2
                words = _fitting(holders, piece[2])
                sheet.text(middle, piece[1] + piece[3] / 2, words, SMALL, align='center')


def _draw_caption(sheet: Sheet, dims: str, share: Share, box: Box) -> None:
    """Under a box: how it is split, and the bytes a device."""
    left, y = box[0], box[1] + box[3] + 0.08
    if not share.arrays:
        sheet.text(left, y, 'none', SMALL, GREY)
        return
    held, arrays = share.device_bytes + share.host_bytes, len(share.arrays)
    alike = arrays > 1 and len({x.shape for x in share.arrays}) == 1
    words = f'{arrays} x {bytes_words(held // arrays)}' if alike else bytes_words(held)
    words += ' in host memory' if share.host_bytes else ''
    sheet.text(left, y, split_words(dims, share.arrays[0].sharding), SMALL, GREY)
    sheet.text(left + box[2], y, words, SMALL, GREY, align='right')


def _draw_legend(sheet: Sheet, y: float) -> None:
    words = (
        'Numbers and colours tell which devices hold a piece; "0.." is device 0 and others. '
        'Grey: every device holds all of it. All arrays are drawn at one size.'
    )
    sheet.text(MARGIN, y, words, 7.5, GREY)


def _slots(count: int) -> list[tuple[int, float, float]]:
    """(piece, where it begins, its length) of those drawn along a side of length 1."""
    if count <= MOST_CUTS:
        return [(i, i / count, 1 / count) for i in range(count)]
    shown = [(0, 0), (1, 1), (2, 2), (count - 2, MOST_CUTS - 2), (count - 1, MOST_CUTS - 1)]
    return [(piece, place / MOST_CUTS, 1 / MOST_CUTS) for piece, place in shown]


def _fitting(holders: tuple[int, ...], width: float) -> str:
    """The devices in words, or the first of them where there is no room."""
    words = device_words(holders)
    return words if len(words) * SMALL * FONT_WIDTH < width else f'{holders[0]}..'


def _device_colours(cuts: list[Pieces]) -> dict[int, Colour]:
    """One for each device that is the first to hold some piece, light enough to write on."""
    first = sorted({holders[0] for cut in cuts for holders in cut.holders.values()})
    shades = matplotlib.colormaps['viridis']
    return {
        device: lightened(shades(place / max(1, len(first) - 1))[:3], 0.5)
        for place, device in enumerate(first)
    }
