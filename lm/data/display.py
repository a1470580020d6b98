"""Rows of a batch as a person reads them: every token with its position, segment and target."""

import html
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lm.batch import Batch

Pieces = Callable[[np.ndarray], list[str]]
"""Ids to readable pieces: `Tokenizer.pieces`."""

_WIDTH = 100
_STYLE = """
body { font: 15px/2.6 sans-serif; max-width: 70em; margin: 2em auto }
h2 { font-size: 1em; line-height: 1.2 } ol, h3 { font-size: .9em; line-height: 1.4 }
ruby { padding: 2px 1px; margin: 1px; border-radius: 3px; background: #eee }
ruby.odd { background: #dbe9f6 } ruby.even { background: #f6ecd8 } rt { color: #a00 }
"""


class Side(NamedTuple):
    """What one stack of a model reads in a row, and what it should say.

    Attributes:
      title: `tokens`, or `encoder` and `decoder`.
      lines: `token`, `segment`, `position`, where a part is seen both ways `prefix` and, where
        there are targets, `target` and `weight`: a text for every position up to the row's last
        token.
      padded: positions after those.
    """

    title: str
    lines: dict[str, list[str]]
    padded: int


class ShownRow(NamedTuple):
    """A row ready to be shown.

    Attributes:
      title: which row it is.
      documents: the name of the source document of every segment.
      sides: one, or the encoder's and the decoder's.
    """

    title: str
    documents: Mapping[int, str]
    sides: Sequence[Side]


def show_row(title: str, row: Batch, documents: Mapping[int, str], pieces: Pieces) -> ShownRow:
    """One row of a batch (arrays [T]) in words."""
    arrays = row._asdict()
    reader = {'token': 'tokens', 'segment': 'segment_ids', 'position': 'positions'}
    answer = {'target': 'targets', 'weight': 'loss_weights'} if row.targets is not None else {}
    if row.prefix is not None:
        reader['prefix'] = 'prefix'
    if row.decoder_tokens is None:
        sides = [_side('tokens', arrays, reader | answer, pieces)]
    else:
        decoder = {line: f'decoder_{field}' for line, field in reader.items()}
        sides = [
            _side('encoder', arrays, reader, pieces),
            _side('decoder', arrays, decoder | answer, pieces),
        ]
    return ShownRow(title, documents, sides)


def as_text(rows: Iterable[ShownRow]) -> str:
    """Lines of at most 100 columns: under every token its target, segment, position and weight."""
    lines: list[str] = []
    for row in rows:
        lines += [row.title, '']
        lines += [f'  segment {number}: {name}' for number, name in row.documents.items()]
        for side in row.sides:
            lines += ['', f'  {side.title}']
            lines += [line for block in _wrapped(side.lines) for line in ['', *block]]
            if side.padded:
                lines += ['', f'    and {side.padded} positions of padding']
        lines.append('')
    return '\n'.join(lines)


def as_html(rows: Iterable[ShownRow]) -> str:
    """A page that stands alone: the target above each token, the rest where the mouse rests."""
    body: list[str] = []
    for row in rows:
        names = ''.join(f'<li value="{n}">{html.escape(d)}</li>' for n, d in row.documents.items())
        body.append(f'<h2>{html.escape(row.title)}</h2><ol>{names}</ol>')
        for side in row.sides:
            tokens = '\n'.join(_ruby(side.lines, i) for i in range(len(side.lines['token'])))
            padding = f' and {side.padded} positions of padding' if side.padded else ''
            body.append(f'<h3>{side.title}{padding}</h3><p>{tokens}</p>')
    head = f'<meta charset="utf-8"><title>lm data</title><style>{_STYLE}</style>'
    return f'<!doctype html><html><head>{head}</head><body>\n{"".join(body)}\n</body></html>\n'


def _side(title: str, arrays: Mapping[str, Any], fields: Mapping[str, str], pieces: Pieces) -> Side:
    """The lines whose names are the keys of `fields`, from the batch's arrays of those names."""
    segments = np.asarray(arrays[fields['segment']])
    count = int(np.max(np.flatnonzero(segments), initial=-1)) + 1
    lines = {}
    for line, field in fields.items():
        values = np.asarray(arrays[field])[:count]
        if line in ('token', 'target'):
            lines[line] = [_printable(piece) for piece in pieces(values)]
        else:
            lines[line] = [f'{float(value):g}' for value in values]
    return Side(title, lines, len(segments) - count)


def _wrapped(lines: Mapping[str, list[str]]) -> Iterable[list[str]]:
    """Blocks of lines whose columns stand under each other, as many columns as fit."""
    margin = max(map(len, lines)) + 6
    columns = list(zip(*lines.values(), strict=True))
    widths = [max(map(_columns, column)) + 1 for column in columns]
    start = 0
    while start < len(columns):
        stop, used = start + 1, margin + widths[start]
        while stop < len(columns) and used + widths[stop] <= _WIDTH:
            used += widths[stop]
            stop += 1
        yield [
            f'    {name:<{margin - 4}}'
            + ''.join(
                cell + ' ' * (width - _columns(cell))
                for cell, width in zip(cells[start:stop], widths[start:stop], strict=True)
            ).rstrip()
            for name, cells in lines.items()
        ]
        start = stop


def _ruby(lines: Mapping[str, list[str]], i: int) -> str:
    cells = {name: html.escape(cells[i]) for name, cells in lines.items()}
    counts = cells.get('weight', '0') != '0'
    side = 'odd' if int(cells['segment']) % 2 else 'even'
    about = ', '.join(f'{name} {cell}' for name, cell in cells.items())
    target = f'<rt>{cells["target"]}</rt>' if counts else '<rt>&nbsp;</rt>'
    return f'<ruby class="{side}" title="{about}">{cells["token"]}{target}</ruby>'


def _printable(piece: str) -> str:
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in piece)


def _columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in 'WF' else 1
        for c in text
    )
