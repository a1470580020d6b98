"""Other forms of the law than Chinchilla's: tied exponents, over-training, and pure power laws.

References:
  Kaplan et al. 2020, Scaling Laws for Neural Language Models, arXiv 2001.08361: L(N), L(D) and L(C)
    (equations 1.1 to 1.3) and their joint L(N, D) (equation 1.5).
  Gadre et al. 2024, Language models scale reliably with over-training, arXiv 2403.08540:
    their L(C, M), written in N and D.
  Dey et al. 2023, Cerebras-GPT, arXiv 2304.03208: L(C) with a floor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares, minimize, minimize_scalar

from lm.errors import UserError, did_you_mean
from lm.scaling.compute_law import fit_compute_law
from lm.scaling.frontier import regress
from lm.scaling.huber import DELTA, Data, terms
from lm.scaling.runs import Points, Runs

EXPONENTS = (0.02, 2.0)
"""What a shared exponent is searched within."""
KAPLAN_STARTS = ((0.08, 0.1), (0.05, 0.3), (0.3, 0.05), (0.3, 0.3))
"""alpha_N and alpha_D where the joint law is searched from."""
TIED_STARTS = (0.1, 0.2, 0.35, 0.5, 0.8)
"""alpha where the tied law is searched from."""


class Foretold(NamedTuple):
    """The loss at a compute, and N* and D* where the form knows them."""

    flops: float
    params: float | None
    tokens: float | None
    loss: float


@dataclass(frozen=True)
class FormFit:
    """A form fitted to runs.

    Args:
      formula: with the names of the constants.
      constants: by name.
      objective: what was minimized: `rule` says of what.
      rule: how residuals are counted.
      converged: the minimum lies within what was searched.
      points: how many points were fitted.
      loss: of N, D and C.
      best_size: N*(C) where C = 6 N D; None where the form has none.
      of_flops: whether the loss is of C alone.
    """

    formula: str
    constants: dict[str, float]
    objective: float
    rule: str
    converged: bool
    points: int
    loss: Callable[[Points, Points, Points], Points]
    best_size: Callable[[float], float] | None = None
    of_flops: bool = False

    @property
    def of_compute(self) -> bool:
        """Whether the form says anything of a compute."""
        return self.of_flops or self.best_size is not None

    def predict(self, flops: float) -> Foretold:
        """The loss at a compute, at the best size where the form knows sizes.

        Raises:
          UserError: `flops` is not positive and finite, or no compute tells the loss of this form.
        """
        if not (math.isfinite(flops) and flops > 0):
            raise UserError(f'flops={flops}: must be positive and finite, such as 1e21')
        if self.of_flops:
            none = np.full(1, np.nan)
            return Foretold(flops, None, None, float(self.loss(none, none, np.array([flops]))[0]))
        if self.best_size is None:
            raise UserError(f'flops={flops:.6g}: {self.formula} says nothing of a compute')
        params = self.best_size(flops)
        tokens = flops / 6 / params
        arrays = np.array([params]), np.array([tokens]), np.array([flops])
        return Foretold(flops, params, tokens, float(self.loss(*arrays)[0]))


def fit_form(form: str, runs: Runs) -> FormFit:
    """Fits a form of `FORMS`.

    Raises:
      UserError: no such form, or the runs are too few or too alike to tell its constants.
    """
    if form not in FORMS:
        raise UserError(f'form={form}{did_you_mean(form, list(FORMS))}')
    needed, fit = FORMS[form]
    if len(runs) < needed:
        raise UserError(
            f'runs: {len(runs)} points for the {needed} constants of form {form}; give more runs'
        )
    return fit(runs)


def fit_tied(runs: Runs) -> FormFit:
    """E + A / N^alpha + B / D^alpha, by the Huber loss of ln L's residuals as the untied law."""
    _require_different('params', runs.params, 3)
    data, weights = Data.of(runs), np.ones((1, len(runs)))
    wx, wy = data.widths
    unit = DELTA * len(runs)

    def row_of(free: Float64[np.ndarray, '4']) -> Float64[np.ndarray, '1 5']:
        a, b, e, alpha = free
        return np.array([[a, b, e, alpha * wx, alpha * wy]])

    def objective(free: Float64[np.ndarray, '4']) -> tuple[float, Float64[np.ndarray, '4']]:
        at = terms(row_of(free), data, weights)
        a, b, e, by_x, by_y = at.gradients[0] / unit
        return float(at.values[0]) / unit, np.array([a, b, e, by_x * wx + by_y * wy])

    floor = math.log(0.7 * runs.losses.min())
    rest = math.log(max(0.5 * (runs.losses.mean() - math.exp(floor)), 1e-9))
    ends = [
        minimize(
            objective, [rest, rest, floor, alpha], jac=True, method='BFGS', options={'gtol': 1e-9}
        )
        for alpha in TIED_STARTS
    ]
    best = min(ends, key=lambda end: float(end.fun))
    a, b, e, alpha, _ = data.unscaled(row_of(best.x))[0]
    E, A, B, alpha = (float(x) for x in (*np.exp([e, a, b]), alpha))
    flat = float(np.linalg.norm(objective(best.x)[1])) <= 1e-5
    return _sum_of_two(
        'E + A/N^alpha + B/D^alpha', {'E': E, 'A': A, 'B': B, 'alpha': alpha},
        (E, A, B, alpha), float(best.fun) * unit, 'sum of Huber, delta 1e-3, of ln L',
        flat and alpha > 0, len(runs),
    )  # fmt: skip


def fit_gadre(runs: Runs) -> FormFit:
    """E + a N^(-2 eta) + b 6^(-eta) D^(-2 eta), by least squares of the loss.

    For a given eta it is linear in the others, so that only eta is searched for.
    """
    _require_different('params', runs.params, 3)
    log_n, log_d = np.log(runs.params), np.log(runs.tokens)
    cn, cd = float(log_n.mean()), float(log_d.mean())

    def projected(exponent: float) -> tuple[np.ndarray, float]:
        columns = (
            np.ones_like(log_n),
            np.exp(exponent * (cn - log_n)),
            np.exp(exponent * (cd - log_d)),
        )
        design = np.stack(columns, 1)
        found = np.linalg.lstsq(design, runs.losses, rcond=None)[0]
        return found, float(((design @ found - runs.losses) ** 2).sum())

    exponent, inside = _search(lambda x: projected(x)[1])
    (E, of_n, of_d), left = projected(exponent)
    A, B = float(of_n * math.exp(exponent * cn)), float(of_d * math.exp(exponent * cd))
    eta = exponent / 2
    return _sum_of_two(
        'E + a N^(-2 eta) + b 6^(-eta) D^(-2 eta)',
        {'E': float(E), 'a': A, 'b': B * 6**eta, 'eta': eta},
        (float(E), A, B, exponent), left, 'sum of squares, nats', inside, len(runs),
    )  # fmt: skip


def fit_power(runs: Runs) -> FormFit:
    """E + (C / C0)^(-c), by least squares of the loss (without E of fewer than four computes)."""
    law = fit_compute_law(runs.compute, runs.losses)

    def loss(params: Points, tokens: Points, flops: Points) -> Points:
        return law.E + np.exp(law.log_constant - law.exponent * np.log(flops))

    off = loss(runs.params, runs.tokens, runs.compute) - runs.losses
    floor = {'E': law.E} if law.floor else {}
    return FormFit(
        'E + (C/C0)^-c' if law.floor else '(C/C0)^-c',
        {**floor, 'C0': law.scale, 'c': law.exponent},
        float((off**2).sum()), 'sum of squares, nats', True, len(runs), loss, of_flops=True,
    )  # fmt: skip


def fit_kaplan_n(runs: Runs) -> FormFit:
    """(Nc / N)^alpha_N of models trained to convergence on ample data (equation 1.1)."""
    return _pure('N', 'params', runs.params, runs, lambda params, tokens, flops: params)


def fit_kaplan_d(runs: Runs) -> FormFit:
    """(Dc / D)^alpha_D of large models stopped early (equation 1.2)."""
    return _pure('D', 'tokens', runs.tokens, runs, lambda params, tokens, flops: tokens)


def fit_kaplan_c(runs: Runs) -> FormFit:
    """(Cc / C)^alpha_C of the best runs of each compute (equation 1.3)."""
    return _pure('C', 'flops', runs.compute, runs, lambda params, tokens, flops: flops)


def fit_kaplan(runs: Runs) -> FormFit:
    """((Nc / N)^(alpha_N / alpha_D) + Dc / D)^alpha_D (equation 1.5), by least squares of ln L."""
    _require_different('params', runs.params, 2)
    _require_different('tokens', runs.tokens, 2)
    log_n, log_d, log_losses = (np.log(x) for x in (runs.params, runs.tokens, runs.losses))
    cn, cd = float(log_n.mean()), float(log_d.mean())

    def log_loss(free: np.ndarray, x: Points, y: Points) -> Points:
        """Of u = alpha_N ln(Nc / N0) and v = alpha_D ln(Dc / D0), N0 and D0 in the runs' middle."""
        u, v, of_n, of_d = free
        return of_d * np.logaddexp((u - of_n * (x - cn)) / of_d, v / of_d - (y - cd))

    middle = float(log_losses.mean())
    options = {'x_scale': [1, 1, 0.1, 0.1], 'xtol': 1e-15, 'ftol': 1e-15, 'gtol': 1e-15}
    ends = [
        least_squares(
            lambda free: log_loss(free, log_n, log_d) - log_losses,
            [middle, middle, of_n, of_d],
            bounds=([-30, -30, 1e-3, 1e-3], [30, 30, 2, 2]),
            **options,
        )
        for of_n, of_d in KAPLAN_STARTS
    ]
    best = min(ends, key=lambda end: float(end.cost))
    u, v, of_n, of_d = (float(x) for x in best.x)
    log_nc, log_dc = u / of_n + cn, v / of_d + cd

    def loss(params: Points, tokens: Points, flops: Points) -> Points:
        return np.exp(log_loss(best.x, np.log(params), np.log(tokens)))

    def best_size(flops: float) -> float:
        ratio = of_n / of_d
        log_size = math.log(ratio) + ratio * log_nc + math.log(flops / 6) - log_dc
        return math.exp(log_size / (ratio + 1))

    return FormFit(
        '((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D',
        {'Nc': math.exp(log_nc), 'Dc': math.exp(log_dc), 'alpha_N': of_n, 'alpha_D': of_d},
        2 * float(best.cost), 'sum of squares of ln L', not best.active_mask.any(), len(runs),
        loss, best_size,
    )  # fmt: skip


FORMS: dict[str, tuple[int, Callable[[Runs], FormFit]]] = {
    'tied': (4, fit_tied),
    'gadre': (4, fit_gadre),
    'power': (2, fit_power),
    'kaplan_n': (2, fit_kaplan_n),
    'kaplan_d': (2, fit_kaplan_d),
    'kaplan_c': (2, fit_kaplan_c),
    'kaplan': (4, fit_kaplan),
}
"""How many points each form needs, and its fit."""


def _pure(
    letter: str, column: str, values: Points, runs: Runs, of: Callable[..., Points]
) -> FormFit:
    """(Xc / X)^alpha, by the line of ln L on ln X."""
    _require_different(column, values, 2)
    line = regress(values, runs.losses)
    if line.exponent >= 0:
        raise UserError(f'loss: does not fall with {column}, so no power law of it is fitted')

    def loss(params: Points, tokens: Points, flops: Points) -> Points:
        return np.exp(line.log_constant + line.exponent * np.log(of(params, tokens, flops)))

    off = np.log(loss(runs.params, runs.tokens, runs.compute) / runs.losses)
    constants = {
        f'{letter}c': math.exp(-line.log_constant / line.exponent),
        f'alpha_{letter}': -line.exponent,
    }
    return FormFit(
        f'({letter}c/{letter})^alpha_{letter}', constants, float((off**2).sum()),
        'sum of squares of ln L', True, len(runs), loss, of_flops=letter == 'C',
    )  # fmt: skip


def _sum_of_two(
    formula: str, constants: dict[str, float], law: tuple[float, float, float, float],
    objective: float, rule: str, converged: bool, points: int,
) -> FormFit:  # fmt: skip
    """E + A / N^alpha + B / D^alpha, whose N*(C) is (A / B)^(1 / (2 alpha)) (C / 6)^(1 / 2)."""
    E, A, B, alpha = law

    def loss(params: Points, tokens: Points, flops: Points) -> Points:
        return E + A / params**alpha + B / tokens**alpha

    def best_size(flops: float) -> float:
        if min(A, B, alpha) <= 0:
            raise UserError(f'form: A={A:.4g}, B={B:.4g}, alpha={alpha:.4g} have no best size')
        return math.exp((math.log(A) - math.log(B)) / (2 * alpha) + math.log(flops / 6) / 2)

    return FormFit(formula, constants, objective, rule, converged, points, loss, best_size)


def _search(off: Callable[[float], float]) -> tuple[float, bool]:
    """The best exponent, and whether it lies within what is searched."""
    tried = np.log(np.geomspace(*EXPONENTS, 80))
    best = int(np.argmin([off(math.exp(x)) for x in tried]))
    inside = 0 < best < len(tried) - 1
    around = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    found = minimize_scalar(
        lambda x: off(math.exp(x)), bounds=around, method='bounded', options={'xatol': 1e-10}
    )
    return math.exp(found.x), inside


def _require_different(column: str, values: Points, least: int) -> None:
    count = len(np.unique(values))
    if count < least:
        raise UserError(f'{column}: {count} different values; give runs of at least {least}')
