"""An answer as a browser shows it: HTML and SVG of escaped text, right on light and dark pages."""

import html
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from lm.inspection.attention import AttentionMap
from lm.playground.answer import Token

CELL, LETTER = 16, 6.6
"""Pixels of a cell of a map, and of a letter."""
LABEL = 14
"""Letters of a token that its label has room for."""
MOST_CELLS = 96
"""Tokens of a side that are drawn, the last ones."""
FAINTEST = 0.004
"""A weight of a smaller share of the largest would not be seen."""


def tokens_html(tokens: Sequence[Token]) -> str:
    """The tokens, red to green by probability; under them a table of what else might have come."""
    if not tokens:
        return '<p>No token came.</p>'
    said = ''.join(
        f'<span class="token" style="background: {_shade(token.probability)}" '
        f'title="{html.escape(_words(token))}">{_piece(token.piece)}</span>'
        for token in tokens
    )
    rows = ''.join(
        f'<tr><td>{number}</td><td><code>{_piece(token.piece)}</code></td>'
        f'<td>{token.probability:.1%}</td><td>{_others(token)}</td></tr>'
        for number, token in enumerate(tokens, 1)
    )
    return (
        f'<p class="tokens">{said}</p><table class="tokens"><thead><tr><th></th><th>token</th>'
        '<th>probability</th><th>the likeliest there</th></tr></thead>'
        f'<tbody>{rows}</tbody></table>'
    )


def map_svg(of: AttentionMap, head: int) -> str:
    """The weights of a head of the only layer of a map: darker is more, rows look at columns."""
    weights_TS = _drawn(of, head)
    darkest = float(weights_TS.max())
    rows, columns = of.rows[-MOST_CELLS:], of.columns[-MOST_CELLS:]
    left = _room(rows)
    top = _room(columns)
    width, height = left + CELL * len(columns) + 4, top + CELL * len(rows) + 4
    cells = [
        f'<rect x="{left + CELL * s}" y="{top + CELL * t}" width="{CELL}" height="{CELL}" '
        f'fill-opacity="{weight / darkest:.3f}"><title>{_piece(rows[t])} looks at '
        f'{_piece(columns[s])}: {weight:.3f}</title></rect>'
        for t, weights_S in enumerate(weights_TS)
        for s, weight in enumerate(map(float, weights_S))
        if weight >= FAINTEST * darkest
    ]
    return (
        f'<svg class="map" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="attention of head {head}">'
        f'<rect class="frame" x="{left}" y="{top}" width="{CELL * len(columns)}" '
        f'height="{CELL * len(rows)}"/>{"".join(cells)}'
        f'{"".join(_labels(rows, columns, left, top))}</svg>'
    )


def map_words(of: AttentionMap, head: int) -> str:
    """How to read `map_svg`, and what of the map is not drawn."""
    most = max(len(of.rows), len(of.columns))
    cut = f' The last {MOST_CELLS} of {most} tokens are drawn.' if most > MOST_CELLS else ''
    return (
        'A row is a token that looks, a column what it looks at; the darkest is a weight of '
        f'{float(_drawn(of, head).max()):.2f}.{cut}'
    )


def _drawn(of: AttentionMap, head: int) -> Float[np.ndarray, 'T S']:
    return of.weights_LHTS[0, head, -MOST_CELLS:, -MOST_CELLS:]


def _labels(rows: Sequence[str], columns: Sequence[str], left: float, top: float) -> Iterator[str]:
    for t, piece in enumerate(rows):
        y = top + CELL * t + 0.72 * CELL
        yield f'<text x="{left - 5}" y="{y:.1f}" text-anchor="end">{_label(piece)}</text>'
    for s, piece in enumerate(columns):
        x, y = left + CELL * s + 0.7 * CELL, top - 5
        yield f'<text transform="translate({x:.1f} {y}) rotate(-90)">{_label(piece)}</text>'


def _room(pieces: Sequence[str]) -> float:
    longest = max(min(len(piece), LABEL + 1) for piece in pieces)
    return round(LETTER * longest) + 10


def _label(piece: str) -> str:
    return _piece(piece if len(piece) <= LABEL else f'{piece[:LABEL]}…')


def _piece(piece: str) -> str:
    """A piece in which what is not printed is written out."""
    return html.escape(''.join(c if c.isprintable() else repr(c)[1:-1] for c in piece))


def _shade(probability: float) -> str:
    return f'hsl({120 * probability**0.5:.0f} 75% 50% / 0.32)'


def _words(token: Token) -> str:
    others = ', '.join(f'{piece} {probability:.1%}' for piece, probability in token.others)
    return f'{token.probability:.1%}' + (f'; the likeliest: {others}' if others else '')


def _others(token: Token) -> str:
    if not token.others:
        return '<i>beyond the context</i>'
    return ' &ensp; '.join(
        f'<span{" class=came" * (piece == token.piece)}><code>{_piece(piece)}</code> '
        f'{probability:.1%}</span>'
        for piece, probability in token.others
    )
