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
