"""Pictures of runs as SVG that a page takes in: colours are the page's own, text stays text.

Matplotlib takes longer to import than all else here, so nothing but the page imports this file.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lm.report.recorded import Recorded, Rows, Series

SIZE = (5.6, 3.6)
"""Inches."""
DASHES = ('solid', 'dashed', 'dashdot', 'dotted')
COLOURS = 8
"""Runs that differ by colour alone; the next so many have another dash."""
MOST_DRAWN = 800
"""Points of a line; of longer ones the lowest and the highest of each stretch are drawn."""
SMOOTHED_FROM = 100
"""Rows from which on a running mean is drawn over a noisy line."""
WINDOW = 50
"""The running mean is over one row in so many of all rows."""
INK, FAINT = '#010203', '#020304'
"""Stand for the page's colours of text and grid lines."""
AXES = {
    'step': 'step',
    'tokens': 'tokens read',
    'flops': 'FLOPs',
    'seconds': 'seconds in the loop',
}


class Curve(NamedTuple):
    """What is drawn of each run.

    Attributes:
      name: column of the metrics.
      title: of the picture.
      label: of the vertical axis.
      log: whether that is logarithmic.
      unit: the column is multiplied by it.
    """

    name: str
    title: str
    label: str
    log: bool = False
    unit: float = 1.0


def colour(run: int) -> str:
    """What stands for the page's colour of run number `run`."""
    return f'#0a0b{run % COLOURS:02x}'


def dash(run: int) -> str:
    """How the line of run number `run` is drawn."""
    return DASHES[run // COLOURS % len(DASHES)]


def losses(runs: Sequence[tuple[int, Recorded]], axis: str) -> Figure | None:
    """Training loss (thin, its running mean thick) and held-out loss (dots) over an axis.

    Args:
      runs: each with the number that decides its colour.
      axis: a key of `AXES`.

    Returns:
      None where no run has a loss at a known place.
    """

    def draw(axes: Axes) -> bool:
        drawn = False
        for number, run in runs:
            along = run.along(axis, run.metrics)
            drawn |= _line(axes, along, run.metrics['loss'], number, mean=True)
            drawn |= _dots(axes, run.along(axis, run.held_out), run.held_out, number)
        return drawn

    return _figure(draw, axis, 'loss, nats per target', log=True, log_axis=True)


def held_out(runs: Sequence[tuple[int, Recorded]], axis: str) -> Figure | None:
    """Held-out loss alone, joined by lines; arguments as of `losses`."""

    def draw(axes: Axes) -> bool:
        drawn = False
        for number, run in runs:
            along = run.along(axis, run.held_out)
            _line(axes, along, run.held_out['loss'], number)
            drawn |= _dots(axes, along, run.held_out, number)
        return drawn

    return _figure(draw, axis, 'held-out loss, nats per target')


def over_steps(runs: Sequence[tuple[int, Recorded]], curve: Curve) -> Figure | None:
    """A column of the metrics over steps; None where no run has it."""

    def draw(axes: Axes) -> bool:
        drawn = False
        for number, run in runs:
            values = run.metrics[curve.name] * curve.unit
            drawn |= _line(axes, run.along('step', run.metrics), values, number)
        return drawn

    return _figure(draw, 'step', curve.label, log=curve.log)


def thinned(values: Series, most: int = MOST_DRAWN) -> Int[np.ndarray, ' _']:
    """Which rows of a line are drawn: of each of `most / 2` stretches the lowest and the highest.

    So no spike is lost. All rows where there are no more than `most`; a row without a number is
    kept where its stretch has no other.
    """
    if len(values) <= most:
        return np.arange(len(values))
    kept = [
        stretch[[_at(np.nanargmin, values[stretch]), _at(np.nanargmax, values[stretch])]]
        for stretch in np.array_split(np.arange(len(values)), most // 2)
    ]
    return np.unique(np.concatenate(kept))


def _at(extreme: Callable[[Series], np.intp], values: Series) -> int:
    return int(extreme(values)) if np.isfinite(values).any() else 0


def running_mean(values: Series, width: int) -> Series:
    """The mean of each value and of those up to half a width around it; nan is left out."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(values))
    low = np.maximum(places - width // 2, 0)
    high = np.minimum(places + width // 2 + 1, len(values))
    number = counts[high] - counts[low]
    means = (sums[high] - sums[low]) / np.maximum(number, 1)
    return np.where(number > 0, means, np.nan)


def as_svg(figure: Figure, name: str) -> str:
    """The picture as an element of a page.

    Args:
      name: is put before every id, which are then the page's only ones.
    """
    data = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'lm'}):
        figure.savefig(data, format='svg', metadata=dict.fromkeys(('Date', 'Creator', 'Format')))
    text = data.getvalue()
    svg = text[text.index('<svg') :]
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf'\1{name}-', svg)
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = svg.replace(INK, 'currentColor').replace(FAINT, 'var(--faint)')
    return re.sub(r'#0a0b(\w\w)', lambda found: f'var(--run{int(found[1], 16)})', svg)


def _figure(
    draw: Callable[[Axes], bool],
    axis: str,
    label: str,
    *,
    log: bool = False,
    log_axis: bool = False,
) -> Figure | None:
    figure = Figure(SIZE, layout='constrained', facecolor='none')
    axes = figure.add_subplot(facecolor='none')
    if not draw(axes):
        return None
    axes.set(xlabel=AXES[axis], ylabel=label)
    if log_axis:
        axes.set_xscale('log')
    if log:
        axes.set_yscale('log')
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f'{value:.3g}'))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.tick_params(which='both', colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.xaxis.get_offset_text().set_color(INK)
    axes.yaxis.get_offset_text().set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ('left', 'bottom'))
    return figure


def _line(axes: Axes, along: Series, values: Series, number: int, *, mean: bool = False) -> bool:
    """Draws a run's values, thinned; whether there were any."""
    if not np.isfinite(along + values).any():
        return False
    smooth = mean and len(values) >= SMOOTHED_FROM
    rows = thinned(values)
    axes.plot(
        along[rows], values[rows], color=colour(number), linestyle=dash(number),
        linewidth=0.7 if smooth else 1.4, alpha=0.4 if smooth else 1.0,
    )  # fmt: skip
    if smooth:
        means = running_mean(values, len(values) // WINDOW)
        rows = thinned(means)
        axes.plot(
            along[rows], means[rows], color=colour(number), linestyle=dash(number), linewidth=1.8
        )
    return True


def _dots(axes: Axes, along: Series, rows: Rows, number: int) -> bool:
    """Draws held-out losses, a filled dot where all of the text was scored; whether any were."""
    drawn, whole = np.isfinite(along + rows['loss']), rows['whole'] == 1
    for marks, fill in ((drawn & ~whole, 'none'), (drawn & whole, colour(number))):
        axes.plot(
            along[marks], rows['loss'][marks], 'o', color=colour(number), markerfacecolor=fill,
            markersize=4.5,
        )  # fmt: skip
    return bool(drawn.any())
