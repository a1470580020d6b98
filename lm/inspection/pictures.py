"""Pictures of what `lm.inspection` finds. Nothing but `lm inspect` imports it, for matplotlib."""

import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from lm.inspection.attention import AttentionMap
from lm.inspection.embeddings import TokenPoints
from lm.inspection.lettering import GREY, INK, PALE, drawable, inches_of, short
from lm.inspection.next_token import RAW, NextToken
from lm.inspection.scatter import scatter

TITLES = {
    'encoder': 'Self-attention of the encoder',
    'decoder': 'Self-attention of the decoder',
    'cross': 'Cross-attention: the decoder looks at the encoder',
}
"""By kind of attention."""
METHODS = {'pca': 'PCA', 'tsne': 't-SNE'}
COLOURS = 'Blues'
SHADES = PowerNorm(0.5, 0, 1)
"""Weights to shades: by the square root, so that small ones show."""
LABEL_SIZE, LABEL_PITCH = 7.0, 0.125
"""Points of a token's letters, and inches from one token to the next at least."""
SMALLEST, LARGEST, WIDEST = 1.15, 3.2, 54.0
"""Inches of a panel of attention, and of all panels of a figure."""
NARROWEST = 5.0
"""Inches that a heading takes."""
DPI = 100


def png(figure: Figure) -> bytes:
    """A figure as a file."""
    data = io.BytesIO()
    figure.savefig(data, format='png', dpi=DPI, facecolor='white')
    return data.getvalue()


def attention_figure(found: AttentionMap) -> Figure:
    """A panel a layer and head: rows look at columns, darker is more."""
    layers, heads, rows, columns = found.weights_LHTS.shape
    width, height = _panel(columns, heads), _panel(rows, layers)
    left = 0.55 + inches_of(found.rows, LABEL_SIZE)
    bottom, top, gap = 0.15 + inches_of(found.columns, LABEL_SIZE), 0.95, 0.1
    across = max(NARROWEST, left + heads * (width + gap) + 0.3)
    figure = Figure((across, top + layers * (height + gap) + bottom))
    size_x, size_y = figure.get_size_inches()
    for i in range(layers):
        for head in range(heads):
            x, y = left + head * (width + gap), size_y - top - (i + 1) * (height + gap)
            axes = figure.add_axes((x / size_x, y / size_y, width / size_x, height / size_y))
            image = axes.imshow(
                found.weights_LHTS[i, head], cmap=COLOURS, norm=SHADES, aspect='auto',
                interpolation='nearest',
            )  # fmt: skip
            axes.tick_params(length=0, labelsize=LABEL_SIZE, labelcolor=INK, pad=2)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color(PALE)
            if i == 0:
                axes.set_title(f'head {head}', size=9, color=GREY, pad=4)
            if head == 0:
                _label(axes, 'y', found.rows, height)
                figure.text(
                    0.2 / size_x, (y + height / 2) / size_y, f'layer {found.layers[i]}',
                    size=9, color=GREY, rotation=90, ha='center', va='center',
                )  # fmt: skip
            if i == layers - 1:
                _label(axes, 'x', found.columns, width)
    figure.text(0.2 / size_x, 1 - 0.3 / size_y, TITLES[found.kind], size=13, color=INK, va='center')
    bar = figure.add_axes((0.2 / size_x, 1 - 0.62 / size_y, 1.6 / size_x, 0.09 / size_y))
    scale = figure.colorbar(image, cax=bar, orientation='horizontal', ticks=[0, 0.05, 0.25, 1])
    scale.set_ticklabels(['0', '0.05', '0.25', '1'], size=7, color=GREY)
    scale.outline.set_visible(False)
    bar.tick_params(length=2, pad=1, color=PALE)
    note = 'weight of a column in a row; each row sums to 1'
    figure.text(1.95 / size_x, 1 - 0.58 / size_y, note, size=8, color=GREY, va='center')
    return figure


def embeddings_figure(found: Sequence[TokenPoints]) -> Figure:
    """A panel a method: the text's tokens in colour, others pale, named where there is room."""
    side = 7.4
    figure = Figure((side * len(found) + 0.3, side + 0.75))
    for i, points in enumerate(found):
        width, height = figure.get_size_inches()
        box = (0.2 + i * side, 0.2, side - 0.2, side - 0.15)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(PALE)
        scatter(axes, points, (box[2], box[3]))
        words = f'Token embeddings by {METHODS[points.method]}'
        if points.explained is not None:
            words += f': {points.explained[0]:.1%} and {points.explained[1]:.1%} of the variance'
        axes.set_title(words, size=11, color=INK, loc='left', pad=8)
    return figure


def next_token_figure(found: Sequence[NextToken]) -> Figure:
    """A row of panels a place, a panel a setting, a bar a token, likeliest first."""
    shown, settings = len(found[0].ids_N), [*found[0].probabilities]
    left = 0.75 + max(inches_of(each.tokens, 8.5) for each in found)
    panel, gap, height = 2.0, 0.25, 0.19 * shown + 0.1
    each_height = height + 0.85
    figure = Figure((left + len(settings) * (panel + gap) + 0.2, 0.15 + each_height * len(found)))
    width, whole = figure.get_size_inches()
    for row, each in enumerate(found):
        bottom = whole - (row + 1) * each_height
        figure.text(
            0.15 / width, (bottom + each_height - 0.18) / whole,
            f'Next token, {drawable(each.where)}',
            size=12, color=INK, va='center', parse_math=False,
        )  # fmt: skip
        for column, name in enumerate(settings):
            x = left + column * (panel + gap)
            axes = figure.add_axes(
                (x / width, (bottom + 0.12) / whole, panel / width, height / whole)
            )
            _bars(axes, each, name)
            if column == 0:
                names = [f'{short(token)}  {rank:>2}' for rank, token in enumerate(each.tokens, 1)]
                axes.set_yticks(range(shown), names, size=8.5, color=INK, parse_math=False)
    return figure


def _panel(tokens: int, panels: int) -> float:
    """Inches of a side of a panel with so many tokens, of which so many stand beside each other."""
    most = max(SMALLEST, min(LARGEST, WIDEST / panels))
    return min(most, max(SMALLEST, LABEL_PITCH * tokens))


def _label(axes: Axes, axis: str, tokens: Sequence[str], inches: float) -> None:
    """Names tokens along an axis: all, or as many as there is room for, evenly."""
    every = max(1, math.ceil(LABEL_PITCH * len(tokens) / inches - 1e-6))
    places = range(0, len(tokens), every)
    names = [short(tokens[place]) for place in places]
    put = axes.set_xticks if axis == 'x' else axes.set_yticks
    turn = 90 if axis == 'x' else 0
    put([*places], names, size=LABEL_SIZE, rotation=turn, parse_math=False)


def _bars(axes: Axes, found: NextToken, name: str) -> None:
    shares_N = found.probabilities[name]
    axes.barh(
        range(len(shares_N)), shares_N, height=0.72, color='#4477aa' if name == RAW else '#7fb3d5'
    )
    longest = max(float(each.max()) for each in found.probabilities.values())
    axes.set(xlim=(0, longest * 1.3), ylim=(len(shares_N) - 0.4, -0.6), xticks=[], yticks=[])
    axes.spines[['top', 'right', 'bottom']].set_visible(False)
    axes.spines['left'].set_color(PALE)
    axes.tick_params(length=0)
    for place, share in enumerate(shares_N):
        words = share_words(float(share))
        colour = PALE if share == 0 else GREY
        axes.text(share + longest * 0.02, place, words, size=7, color=colour, va='center')
    axes.set_title(name, size=9.5, color=INK, loc='left', pad=14)
    axes.text(
        0, 1.01, f'{found.remaining[name]:,} possible', size=7, color=GREY,
        transform=axes.transAxes, va='bottom',
    )  # fmt: skip


def share_words(share: float) -> str:
    """A probability, to three digits; 0 is what cannot come."""
    return '0' if share == 0 else f'{share:.3f}' if share >= 0.001 else f'{share:.0e}'
