"""What a browser is given: every number of the answer, and no text that is taken for HTML."""

import re

import numpy as np
import pytest

from lm.inspection.attention import AttentionMap
from lm.playground.answer import Token
from lm.playground.shown import MOST_CELLS, map_svg, map_words, tokens_html


def test_tokens_are_escaped_and_all_there() -> None:
    tokens = [
        Token('<b>', 0.25, (('&', 0.5), ('<b>', 0.25))),
        Token('\n"', 1.0, ()),
    ]
    page = tokens_html(tokens)
    assert '<b>' not in page.replace('<body', '')
    assert page.count('&lt;b&gt;') == 4  # said, in its title, in the table, among the likeliest
    assert '<span class=came><code>&lt;b&gt;</code> 25.0%</span>' in page
    assert '<code>&amp;</code> 50.0%' in page
    assert '<code>\\n&quot;</code></td><td>100.0%</td><td><i>beyond the context</i>' in page
    assert 'hsl(120 ' in page and 'hsl(60 ' in page  # certain; one in four
    assert tokens_html([]) == '<p>No token came.</p>'


def test_a_map_has_each_weight_at_its_place() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), size=(1, 2, 4)).astype(np.float32)
    weights[0, 1, 0, 2] = 0
    found = AttentionMap('cross', (5,), ('<a', 'b', 'c', 'd'), ('x', 'y', 'z'), weights)
    svg = map_svg(found, 1)
    cells = re.findall(
        r'<rect x="(\S+)" y="(\S+)" \S+ \S+ fill-opacity="(\S+)"><title>[^:]*: (\S+)</title>', svg
    )
    assert len(cells) == 11
    left, top = (min(float(cell[i]) for cell in cells) for i in range(2))
    drawn = np.zeros((4, 3))
    for x, y, opacity, weight in cells:
        assert float(opacity) == pytest.approx(float(weight) / weights[0, 1].max(), abs=2e-3)
        drawn[round((float(y) - top) / 16), round((float(x) - left) / 16)] = float(weight)
    np.testing.assert_allclose(drawn, weights[0, 1], atol=5e-4)
    assert f'<title>&lt;a looks at y: {weights[0, 1, 0, 1]:.3f}</title>' in svg
    assert '<a' not in svg
    assert map_words(found, 1).endswith(f'is a weight of {weights[0, 1].max():.2f}.')


def test_a_long_map_says_what_is_left_out() -> None:
    pieces = tuple(f't{i}' for i in range(MOST_CELLS + 30))
    found = AttentionMap('decoder', (0,), pieces, pieces, np.eye(len(pieces))[None, None])
    svg = map_svg(found, 0)
    assert svg.count('fill-opacity="1.000"') == MOST_CELLS
    assert '>t29<' not in svg and '>t30<' in svg
    said = f'a weight of 1.00. The last {MOST_CELLS} of {MOST_CELLS + 30} tokens are drawn.'
    assert map_words(found, 0).endswith(said)
