"""What the pictures show, read off the figures, and what the page holds, read off its text."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
from matplotlib import image

from lm.inspection.attention import AttentionMap
from lm.inspection.embeddings import TokenPoints
from lm.inspection.lettering import drawable
from lm.inspection.next_token import NextToken
from lm.inspection.page import page
from lm.inspection.pictures import (
    attention_figure,
    embeddings_figure,
    next_token_figure,
    png,
)

HOSTILE = '</script><img src=x onerror=alert(1)>'
RNG = np.random.default_rng(0)


def attention(rows: tuple[str, ...], columns: tuple[str, ...]) -> AttentionMap:
    weights_LHTS = RNG.random((2, 3, len(rows), len(columns)), np.float32)
    weights_LHTS /= weights_LHTS.sum(-1, keepdims=True)
    return AttentionMap('cross', (1, 4), rows, columns, weights_LHTS)


TABLE = NextToken(
    "after 'a'", np.array([7, 3]), (HOSTILE, '$x$'),
    {'raw': np.array([0.75, 0.0005]), 'all': np.array([1.0, 0.0])}, {'raw': 40, 'all': 1},
)  # fmt: skip


def test_a_panel_a_head_with_the_names_of_its_tokens() -> None:
    found = attention(('a', '$b$'), ('x', '\u4e16', 'z'))
    figure = attention_figure(found)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * 3
    for axes, weights_TS in zip(panels, found.weights_LHTS.reshape(6, 2, 3), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), weights_TS)
    titles = [axes.get_title() for axes in panels]
    assert titles == ['head 0', 'head 1', 'head 2', '', '', '']
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ['a', '$b$']
    assert [t.get_text() for t in panels[5].get_xticklabels()] == ['x', '\\u4e16', 'z']
    words = [text.get_text() for text in figure.texts]
    assert 'layer 1' in words and 'layer 4' in words
    assert image.imread(io.BytesIO(png(figure))).shape[2] == 4


def test_names_are_thinned_out_where_there_is_no_room() -> None:
    long = tuple(map(str, range(200)))
    panels = [axes for axes in attention_figure(attention(long, ('a',))).axes if axes.images]
    names = [t.get_text() for t in panels[0].get_yticklabels()]
    places = [int(place) for place in panels[0].get_yticks()]
    assert names == [str(place) for place in places] and 20 <= len(names) < 30


def test_bars_are_the_probabilities() -> None:
    [raw, both] = next_token_figure([TABLE]).axes
    for axes, name in ((raw, 'raw'), (both, 'all')):
        widths = [bar.get_width() for bar in axes.patches]
        np.testing.assert_array_equal(widths, TABLE.probabilities[name])
        assert axes.get_title(loc='left') == name
    assert [t.get_text() for t in raw.texts] == ['0.750', '5e-04', '40 possible']
    assert [t.get_text() for t in raw.get_yticklabels()] == ['</script><img s\u2026   1', '$x$   2']


def test_a_texts_own_tokens_are_named_and_no_name_covers_another() -> None:
    size = 60
    found = TokenPoints(
        'pca', np.arange(size), tuple(f'word{i}' for i in range(size)), np.arange(size) < 3,
        RNG.standard_normal((size, 2), np.float32), (0.5, 0.25),
    )  # fmt: skip
    figure = embeddings_figure([found])
    [axes] = figure.axes
    assert '50.0% and 25.0% of the variance' in axes.get_title(loc='left')
    pale, mine = (part.get_offsets() for part in axes.collections)
    np.testing.assert_array_equal(mine, found.points_N2[:3])
    np.testing.assert_array_equal(pale, found.points_N2[3:])
    named = [text.get_text() for text in axes.texts]
    assert named[:3] == ['word0', 'word1', 'word2'] and len(named) > 30
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_what_a_font_lacks_is_written_as_its_code_point() -> None:
    assert drawable('a\u2581\u4e16\n') == 'a\u2581\\u4e16\\u000a'


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts of scripts and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags:
            self.texts.append((self.tags[-1][0], data))


def test_a_page_holds_all_and_fetches_nothing() -> None:
    maps, picture = [attention((HOSTILE, 'b'), ('x', 'y', 'z'))], png(next_token_figure([TABLE]))
    written = page(HOSTILE, HOSTILE, 'llama', maps, [TABLE], '', {'next_token.png': picture})
    seen = Elements()
    seen.feed(written)
    images = [attributes['src'] for tag, attributes in seen.tags if tag == 'img']
    assert images == ['data:image/png;base64,' + base64.b64encode(picture).decode()]
    assert [tag for tag, _ in seen.tags].count('script') == 2
    assert not any(key.startswith('on') for _, attributes in seen.tags for key in attributes)
    assert not re.search(r'https?:|//\w', written.replace(images[0], ''))
    policy = [a['content'] for tag, a in seen.tags if a.get('http-equiv')]
    assert policy == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    ]
    [told] = json.loads(next(text for tag, text in seen.texts if tag == 'script'))
    assert (told['layers'], told['heads'], told['rows']) == ([1, 4], 3, [HOSTILE, 'b'])
    weights = np.frombuffer(base64.b64decode(told['weights']), '<u2') / 65535
    np.testing.assert_allclose(weights.reshape(2, 3, 2, 3), maps[0].weights_LHTS, atol=1e-5)
    cells = [text for tag, text in seen.texts if tag == 'td']
    assert cells == ['1', HOSTILE, '7', '0.750', '1.000', '2', '$x$', '3', '5e-04', '0']
