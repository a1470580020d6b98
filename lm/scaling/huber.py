"""Many fits of ln L = logsumexp(a - alpha ln N, b - beta ln D, e) at once, by damped Newton steps.

A fit is a row: of starts, or of weights that a bootstrap drew. With a delta of 1e-3 most residuals
lie on the linear branch of Huber's function, where a Gauss-Newton matrix is all but empty: the
second derivatives are exact, and their eigenvalues are taken by size, so that every step descends.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lm.scaling.runs import Points, Runs

DELTA = 1e-3
"""Where Huber's function turns linear (Hoffmann et al. 2022, appendix D.3)."""
MOST_STEPS = 1000
LONGEST_STEP = 3.0

Rows = Float64[np.ndarray, 'rows 5']
"""a, b, e, alpha, beta of each fit; scaled or not, as said."""


@dataclass(frozen=True)
class Data:
    """The points in scaled variables: x = (ln N - centre) / width, and y the same of D.

    Unscaled, A and alpha all but determine each other, and a search along that valley stops early.
    """

    x: Points
    y: Points
    log_losses: Points
    centres: tuple[float, float]
    widths: tuple[float, float]

    @classmethod
    def of(cls, runs: Runs) -> 'Data':
        """Centred, and of unit standard deviation."""
        x, y = np.log(runs.params), np.log(runs.tokens)
        (cx, wx), (cy, wy) = ((float(v.mean()), float(v.std()) or 1.0) for v in (x, y))
        return cls((x - cx) / wx, (y - cy) / wy, np.log(runs.losses), (cx, cy), (wx, wy))

    def scaled(self, rows: Rows) -> Rows:
        """a, b, e, alpha, beta in the scaled variables."""
        a, b, e, alpha, beta = rows.T
        (cx, cy), (wx, wy) = self.centres, self.widths
        return np.stack([a - alpha * cx, b - beta * cy, e, alpha * wx, beta * wy], 1)

    def unscaled(self, rows: Rows) -> Rows:
        """The inverse of `scaled`."""
        a, b, e, alpha, beta = rows.T
        (cx, cy), (wx, wy) = self.centres, self.widths
        alpha, beta = alpha / wx, beta / wy
        return np.stack([a + alpha * cx, b + beta * cy, e, alpha, beta], 1)


@dataclass(frozen=True)
class Terms:
    """The objective of each row with its derivatives."""

    values: Float64[np.ndarray, ' rows']
    gradients: Rows
    hessians: Float64[np.ndarray, 'rows 5 5']


def _shares(rows: Rows, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residuals, and which share of the loss each of the three terms is."""
    first = rows[:, 0:1] - rows[:, 3:4] * data.x
    second = rows[:, 1:2] - rows[:, 4:5] * data.y
    top = np.maximum(np.maximum(first, second), rows[:, 2:3])
    of_n, of_d, of_e = np.exp(first - top), np.exp(second - top), np.exp(rows[:, 2:3] - top)
    total = of_n + of_d + of_e
    return top + np.log(total) - data.log_losses, of_n / total, of_d / total, of_e / total


def residuals(rows: Rows, data: Data) -> Float64[np.ndarray, 'rows points']:
    """Fitted less observed ln L."""
    return _shares(rows, data)[0]


def objective(
    rows: Rows, data: Data, weights: Float64[np.ndarray, 'weights points']
) -> Float64[np.ndarray, ' rows']:
    """The sum of Huber's function of the residuals of ln L; one row of weights, or each its own."""
    size = np.abs(residuals(rows, data))
    huber = np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))
    return (weights * huber).sum(1)


def terms(rows: Rows, data: Data, weights: Float64[np.ndarray, 'weights points']) -> Terms:
    """Objective, gradient and the exact second derivatives."""
    off, of_n, of_d, of_e = _shares(rows, data)
    size = np.abs(off)
    inside = size <= DELTA
    huber = np.where(inside, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))
    pull = weights * np.clip(off, -DELTA, DELTA)
    slopes = np.stack([of_n, of_d, of_e, -of_n * data.x, -of_d * data.y], 1)
    curved = (weights * inside - pull)[:, None] * slopes
    hessians = curved @ slopes.transpose(0, 2, 1)
    # The logsumexp's own curvature: each term's weighted square, less the slopes' (in `curved`).
    for share, place, slope, along in ((of_n, 0, 3, data.x), (of_d, 1, 4, data.y)):
        pulled = pull * share
        cross = (pulled * along).sum(1)
        hessians[:, place, place] += pulled.sum(1)
        hessians[:, place, slope] -= cross
        hessians[:, slope, place] -= cross
        hessians[:, slope, slope] += (pulled * along**2).sum(1)
    hessians[:, 2, 2] += (pull * of_e).sum(1)
    gradients = (slopes @ pull[:, :, None])[:, :, 0]
    return Terms((weights * huber).sum(1), gradients, hessians)


def minimize(rows: Rows, data: Data, weights: Float64[np.ndarray, 'weights points']) -> Rows:
    """Goes down from each row (scaled) until no step lowers its objective or its gradient.

    One row of weights holds for all; else each row has its own.
    """
    rows = rows.copy()
    weights = np.broadcast_to(weights, (len(rows), len(data.x)))
    damping = np.full(len(rows), 1e-2)
    going = np.arange(len(rows))
    now = terms(rows, data, weights)
    values, gradients, hessians = now.values, now.gradients, now.hessians
    for _ in range(MOST_STEPS):
        eigenvalues, vectors = np.linalg.eigh(hessians[going])
        strength = np.abs(eigenvalues)
        strength += (damping[going] * strength.max(1))[:, None] + 1e-300
        turned = np.einsum('rij,ri->rj', vectors, gradients[going]) / strength
        step = -np.einsum('rij,rj->ri', vectors, turned)
        length = np.linalg.norm(step, axis=1, keepdims=True)
        step *= np.minimum(1.0, LONGEST_STEP / np.maximum(length, 1e-300))
        trial = rows[going] + step
        new = terms(trial, data, weights[going])
        better = _better(new, values[going], gradients[going])
        taken = going[better]
        rows[taken], values[taken] = trial[better], new.values[better]
        gradients[taken], hessians[taken] = new.gradients[better], new.hessians[better]
        damping[going] *= np.where(better, 0.2, 5.0)
        damping[going] = np.maximum(damping[going], 1e-16)
        still = np.linalg.norm(gradients[going], axis=1) <= 1e-17
        going = going[~still & (damping[going] < 1e8)]
        if not going.size:
            break
    return rows


def _better(new: Terms, values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Lower; or, where rounding hides which is lower, of a smaller gradient."""
    level = new.values <= values * (1 + 1e-13)
    flatter = np.linalg.norm(new.gradients, axis=1) < np.linalg.norm(gradients, axis=1)
    return (new.values < values * (1 - 1e-13)) | (level & flatter)
