"""One figure of a data set's scaling laws: as many panels as the runs and the fits allow.

Matplotlib takes longer to import than all else here, so nothing else imports this file.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from lm.scaling.approaches import Approach
from lm.scaling.envelope import EnvelopeFit
from lm.scaling.isoflop import IsoflopFit, slices_of
from lm.scaling.parametric import ParametricFit
from lm.scaling.runs import Points, Runs

COLOURS = 'viridis'
BEST = 'crimson'
WIDTH, HEIGHT = 6.4, 4.8
"""Inches of a panel."""

Panel = Callable[[Axes], None]


def plot(path: str | Path, runs: Runs, approaches: Mapping[str, Approach]) -> None:
    """Writes the figure: iso-FLOP curves, loss surface, envelope, residuals.

    Args:
      path: a file of a kind that matplotlib writes, .png or .svg say.
      runs: what was fitted.
      approaches: by name; each has its panels.
    """
    panels: list[Panel] = []
    for approach in approaches.values():
        panels += _panels(runs, approach)
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure((WIDTH * columns, HEIGHT * rows), layout='constrained')
    for i, panel in enumerate(panels, 1):
        panel(figure.add_subplot(rows, columns, i))
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'lm'}):
        figure.savefig(path, dpi=120)


def _panels(runs: Runs, approach: Approach) -> list[Panel]:
    fit = approach.fit
    if isinstance(fit, IsoflopFit):
        return [lambda axes: isoflop_curves(axes, runs, fit)]
    if isinstance(fit, EnvelopeFit):
        return [lambda axes: envelope(axes, runs, fit)]
    return [lambda axes: surface(axes, runs, fit), lambda axes: residuals(axes, runs, fit)]


def isoflop_curves(axes: Axes, runs: Runs, fit: IsoflopFit) -> None:
    """Loss over N for each budget, the parabolas that were fitted, and their minima."""
    slices = [points for points in slices_of(runs) if points.sizes >= 2]
    shades = _shades(np.array([points.flops for points in slices]))
    with_optimum = {optimum.flops for optimum in fit.optima}
    for points in slices:
        colour = shades.to_rgba(np.log10([points.flops]))[0]
        axes.plot(np.exp(points.x), points.losses, '.', color=colour)
        if points.flops in with_optimum:
            along = np.linspace(points.x.min(), points.x.max(), 100)
            curve = np.polynomial.Polynomial.fit(points.x, points.losses, 2)
            axes.plot(np.exp(along), curve(along), '-', color=colour)
    _stars(axes, [o.params for o in fit.optima], [o.loss for o in fit.optima], 'minimum')
    _bar(axes, shades, 'log10 of the budget, FLOPs')
    axes.set(xscale='log', xlabel='parameters N', ylabel='loss, nats a token')
    axes.set_title(f'Iso-FLOP curves: a = {fit.a:.3f}, b = {fit.b:.3f}')
    axes.legend(fontsize=8)


def surface(axes: Axes, runs: Runs, fit: ParametricFit) -> None:
    """Contours of the law over C and N, the runs, and N*(C)."""
    compute = 6 * runs.params * runs.tokens
    flops = np.geomspace(compute.min() / 2, compute.max() * 10, 160)
    params = np.geomspace(runs.params.min() / 2, runs.params.max() * 4, 160)
    losses = np.stack([fit.loss(np.full_like(flops, size), flops / 6 / size) for size in params])
    low, high = min(runs.losses.min(), losses.min()), runs.losses.max()
    levels = np.unique(fit.E + np.geomspace(max(low - fit.E, 1e-3), high - fit.E, 14))
    norm = LogNorm(levels[0], levels[-1])
    drawn = axes.contour(flops, params, losses, levels, cmap=COLOURS, norm=norm, linewidths=1)
    axes.clabel(drawn, fmt='%.2f', fontsize=7)
    axes.scatter(compute, runs.params, 9, runs.losses, cmap=COLOURS, norm=norm, zorder=3)
    best = [fit.params_law(float(c)) for c in flops]
    axes.plot(flops, best, color=BEST, label='efficient frontier N*(C)')
    axes.set(
        xscale='log', yscale='log', ylim=(params[0], params[-1]),
        xlabel='compute C = 6 N D, FLOPs', ylabel='parameters N',
    )  # fmt: skip
    axes.set_title(
        f'L = {fit.E:.3f} + {fit.A:.4g} / N^{fit.alpha:.3f} + {fit.B:.4g} / D^{fit.beta:.3f}'
    )
    axes.legend(fontsize=8, loc='upper left')


def residuals(axes: Axes, runs: Runs, fit: ParametricFit) -> None:
    """Observed over fitted loss, less one, by compute."""
    off = 100 * (runs.losses / fit.loss(runs.params, runs.tokens) - 1)
    shades = _shades(runs.params)
    axes.axhline(0, color='grey', linewidth=1)
    axes.scatter(runs.compute, off, 12, shades.to_rgba(np.log10(runs.params)))
    _bar(axes, shades, 'log10 of the parameters N')
    axes.set(xscale='log', xlabel='compute C, FLOPs', ylabel='observed over fitted loss, %')
    axes.set_title(f'Residuals: {fit.points} points, mean size {np.abs(off).mean():.2f} %')


def envelope(axes: Axes, runs: Runs, fit: EnvelopeFit) -> None:
    """Learning curves, or points where runs have no names, and the lower hull."""
    shades = _shades(runs.params)
    owners = runs.owners()
    for owner in np.unique(owners):
        mine = np.flatnonzero(owners == owner)
        mine = mine[np.argsort(runs.compute[mine])]
        axes.plot(
            runs.compute[mine], runs.losses[mine], '-' if len(mine) > 1 else '.',
            color=shades.to_rgba(np.log10(runs.params[mine[:1]]))[0], linewidth=0.8,
        )  # fmt: skip
    hull = [o.flops for o in fit.optima], [o.loss for o in fit.optima]
    axes.plot(*hull, color=BEST, linewidth=1)
    _stars(axes, *hull, 'lower hull')
    _bar(axes, shades, 'log10 of the parameters N')
    axes.set(xscale='log', yscale='log', xlabel='compute C, FLOPs', ylabel='loss, nats a token')
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which('{x:.3g}')
    axes.set_title(f'Envelope: a = {fit.a:.3f}, b = {fit.b:.3f}')
    axes.legend(fontsize=8)


def _stars(axes: Axes, x: list[float], y: list[float], label: str) -> None:
    axes.plot(x, y, '*', color=BEST, markersize=9, linestyle='none', label=label)


def _shades(values: Points) -> ScalarMappable:
    """A colour for each log10, dark for small."""
    low, high = float(np.log10(values.min())), float(np.log10(values.max()))
    return ScalarMappable(Normalize(low, high), COLOURS)


def _bar(axes: Axes, shades: ScalarMappable, label: str) -> None:
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(shades, ax=axes, label=label)
