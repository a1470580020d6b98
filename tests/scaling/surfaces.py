"""Made-up runs on a known surface."""

import numpy as np

from lm.scaling.parametric import Constants
from lm.scaling.runs import Runs

TRUTH = Constants(1.8172, 477.8, 2143.0, 0.3473, 0.3672)


def scattered(truth: Constants, points: int = 240, noise: float = 0.0, seed: int = 0) -> Runs:
    """Sizes of 3e7 to 1.6e10, lengths of 1e9 to 3e11, ln L off by `noise`."""
    random = np.random.default_rng(seed)
    params = 10 ** random.uniform(7.5, 10.2, points)
    tokens = 10 ** random.uniform(9, 11.5, points)
    losses = truth.E + truth.A / params**truth.alpha + truth.B / tokens**truth.beta
    return Runs(params, tokens, losses * np.exp(noise * random.standard_normal(points)))


def best_size(truth: Constants, flops: np.ndarray) -> np.ndarray:
    """N*(C) in closed form (Hoffmann et al. 2022, equation 4)."""
    _, A, B, alpha, beta = truth
    ratio = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    return ratio * (flops / 6) ** (beta / (alpha + beta))


def grid(truth: Constants, half_window: float, noise: float = 0.0, sizes: int = 9) -> Runs:
    """Five budgets, sizes evenly in ln N: the best over `half_window` to the best times it."""
    budgets = np.array([1e18, 1e19, 1e20, 1e21, 1e22])
    spread = half_window ** np.linspace(-1, 1, sizes)
    params = (best_size(truth, budgets)[:, None] * spread).ravel()
    budget = np.repeat(budgets, sizes)
    tokens = budget / 6 / params
    losses = truth.E + truth.A / params**truth.alpha + truth.B / tokens**truth.beta
    losses *= np.exp(noise * np.random.default_rng(0).standard_normal(len(losses)))
    return Runs(params, tokens, losses, budget=budget)
