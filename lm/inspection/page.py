"""The page of `lm inspect`: one HTML file with its pictures, tables and numbers inside."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lm.config import require
from lm.inspection.attention import AttentionMap
from lm.inspection.next_token import NextToken
from lm.inspection.pictures import TITLES, share_words
from lm.inspection.viewer import SCRIPT, STYLE

MOST_WEIGHTS = 1 << 24
"""Weights that a page holds: 45 MB of text, which a browser still opens."""
_STEPS = 65535
_NO_NETWORK = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_ATTENTION = """
<p class="controls">
<label>attention <select id="kind"></select></label>
<label>layer <select id="layer"></select></label>
<label>head <select id="head"></select></label></p>
<p class="note">A row looks at columns; darker is more, each row sums to 1. Choose a token: below,
the tokens that it looks at.</p>
<p id="said"></p>
<div class="wide"><canvas id="canvas"></canvas></div>
<div id="looks"></div><p class="note">looks at</p><div id="strip"></div>
"""


def require_room(maps: Sequence[AttentionMap]) -> None:
    """Refuses maps of more weights than a page holds.

    Raises:
      UserError: names how many there are.
    """
    weights = sum(each.weights_LHTS.size for each in maps)
    require(
        weights <= MOST_WEIGHTS,
        f'text: {weights:,} attention weights, and a page holds {MOST_WEIGHTS:,}; shorten the text '
        'or give fewer --layers',
    )


def page(
    text: str,
    target: str,
    model: str,
    maps: Sequence[AttentionMap],
    tables: Sequence[NextToken],
    no_tables: str,
    pictures: Mapping[str, bytes],
) -> str:
    """The whole page; nothing in it is fetched from anywhere.

    Args:
      text, target: what the model read.
      model: its name, for people.
      maps: its attention, to be chosen from.
      tables: next tokens.
      no_tables: why there are none, or empty.
      pictures: PNG files by name, in the order in which they are shown.

    Raises:
      UserError: there are more weights than a page holds.
    """
    require_room(maps)
    said = f'<h2>Target</h2><div class="text">{html.escape(target)}</div>' if target else ''
    parts = {
        'Attention': _ATTENTION,
        'Next token': ''.join(map(_table, tables)) or f'<p>{html.escape(no_tables)}</p>',
        'Pictures': ''.join(
            f'<h3>{html.escape(name)}</h3><img alt="{html.escape(name)}" '
            f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            for name, data in pictures.items()
        ),
    }
    body = ''.join(f'<h2>{title}</h2>{inside}' for title, inside in parts.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_NO_NETWORK}">'
        f'<title>lm inspect: {html.escape(text[:60])}</title><style>{STYLE}</style></head><body>'
        f'<h1>{html.escape(model)}</h1><div class="text">{html.escape(text)}</div>{said}{body}'
        f'<script type="application/json" id="maps">{_as_json(maps)}</script>'
        f'<script>{SCRIPT}</script></body></html>\n'
    )


def _as_json(maps: Sequence[AttentionMap]) -> str:
    """The maps for the script; `<` is written otherwise, so that no token ends the element."""
    told: list[dict[str, Any]] = [
        {
            'title': TITLES[each.kind],
            'layers': each.layers,
            'heads': each.weights_LHTS.shape[1],
            'rows': each.rows,
            'columns': each.columns,
            'weights': base64.b64encode(
                np.rint(each.weights_LHTS * _STEPS).astype('<u2').tobytes()
            ).decode(),
        }
        for each in maps
    ]
    return json.dumps(told).replace('<', '\\u003c')


def _table(found: NextToken) -> str:
    """One place's tokens with their ranks, and a column for each setting."""
    head = ''.join(
        f'<th>{html.escape(name)}<br><span class="note">{count:,} possible</span></th>'
        for name, count in found.remaining.items()
    )
    rows = []
    for i, (token, number) in enumerate(zip(found.tokens, found.ids_N, strict=True)):
        cells = ''.join(
            f'<td{_kind(float(each[i]))}>{share_words(float(each[i]))}</td>'
            for each in found.probabilities.values()
        )
        rows.append(
            f'<tr><td>{i + 1}</td><td class="token">{html.escape(token)}</td>'
            f'<td>{int(number)}</td>{cells}</tr>'
        )
    return (
        f'<table><caption>{html.escape(found.where)}</caption>'
        f'<tr><th>rank</th><th>token</th><th>id</th>{head}</tr>{"".join(rows)}</table>'
    )


def _kind(share: float) -> str:
    return ' class="none"' if share == 0 else ''
