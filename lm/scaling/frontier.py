"""Power laws of compute, N*(C) and D*(C): what each of the three approaches ends in."""

import math
from dataclasses import dataclass

import numpy as np

from lm.scaling.compute_law import ComputeLaw, fit_compute_law
from lm.scaling.runs import Points


@dataclass(frozen=True)
class PowerLaw:
    """exp(log_constant) * C ** exponent."""

    exponent: float
    log_constant: float

    def __call__(self, flops: float) -> float:
        """The value at C."""
        return math.exp(self.log_constant + self.exponent * math.log(flops))


@dataclass(frozen=True)
class Optimum:
    """The best size at one compute, and the data and loss that go with it."""

    flops: float
    params: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Frontier:
    """N*(C) and D*(C), and the optima that they go through, by C."""

    params_law: PowerLaw
    tokens_law: PowerLaw
    optima: tuple[Optimum, ...]

    @property
    def a(self) -> float:
        """The exponent of N*(C)."""
        return self.params_law.exponent

    @property
    def b(self) -> float:
        """The exponent of D*(C)."""
        return self.tokens_law.exponent

    @property
    def loss_law(self) -> ComputeLaw:
        """L*(C) through the optima's losses.

        Raises:
          UserError: they do not fall with compute.
        """
        return fit_compute_law(
            np.array([optimum.flops for optimum in self.optima]),
            np.array([optimum.loss for optimum in self.optima]),
        )


def regress(flops: Points, values: Points) -> PowerLaw:
    """Least squares of ln values on ln C, of at least two C."""
    along = np.log(flops)
    centre, height = along.mean(), np.log(values).mean()
    slope = ((along - centre) * (np.log(values) - height)).sum() / ((along - centre) ** 2).sum()
    return PowerLaw(float(slope), float(height - slope * centre))


def laws(optima: tuple[Optimum, ...]) -> tuple[PowerLaw, PowerLaw]:
    """N*(C) and D*(C) through optima."""
    flops, params, tokens = (
        np.array([getattr(optimum, name) for optimum in optima])
        for name in ('flops', 'params', 'tokens')
    )
    return regress(flops, params), regress(flops, tokens)
