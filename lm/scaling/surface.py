"""The loss surface L(N, D) = E + A / N^alpha + B / D^beta of known constants.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556, equations
    2 and 4.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from lm.errors import UserError
from lm.scaling.frontier import Optimum, PowerLaw

MOST_LOG = 709.0
"""Beyond this exp overflows."""


class Constants(NamedTuple):
    """The five constants of L(N, D) = E + A / N^alpha + B / D^beta.

    Attributes:
      E: the loss that is left at any size and length, nats a token.
      A: what N^alpha divides.
      B: what D^beta divides.
      alpha: exponent of N.
      beta: exponent of D.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float


@dataclass(frozen=True)
class Surface:
    """A law, whoever fitted it.

    Args:
      name: whose, for a reader of what is computed from it.
      constants: E, A, B, alpha and beta, all but E positive.

    Raises:
      UserError: they are not, and so there is no best size.
    """

    name: str
    constants: Constants

    def __post_init__(self) -> None:
        _, A, B, alpha, beta = self.constants
        if not all(math.isfinite(value) and value > 0 for value in (A, B, alpha, beta)):
            raise UserError(
                f'fit: A={A:.4g}, B={B:.4g}, alpha={alpha:.4g}, beta={beta:.4g} have no best size; '
                'all must be positive: fit runs that vary params and tokens apart'
            )

    def loss(self, params: float, tokens: float) -> float:
        """Nats a token."""
        return self.constants.E + self.reducible(params, tokens)

    def reducible(self, params: float, tokens: float) -> float:
        """The loss above E, whose digits a sum with E would round off."""
        _, A, B, alpha, beta = self.constants
        return A * params**-alpha + B * tokens**-beta

    def best(self, flops: float) -> Optimum:
        """The least loss at a compute C = 6 N D."""
        params, tokens = self.params_law(flops), self.tokens_law(flops)
        return Optimum(flops, params, tokens, self.loss(params, tokens))

    @property
    def params_law(self) -> PowerLaw:
        """N*(C) = G (C/6)^(beta / (alpha + beta)), G^(alpha + beta) = alpha A / (beta B)."""
        _, A, B, alpha, beta = self.constants
        log_ratio = (math.log(alpha * A) - math.log(beta * B)) / (alpha + beta)
        a = beta / (alpha + beta)
        return PowerLaw(a, log_ratio - a * math.log(6))

    @property
    def tokens_law(self) -> PowerLaw:
        """D*(C) = C / (6 N*(C))."""
        law = self.params_law
        return PowerLaw(1 - law.exponent, -law.log_constant - math.log(6))

    def best_params(self, tokens: float) -> float:
        """The N that D tokens are compute-optimal for: alpha A / N^alpha = beta B / D^beta."""
        _, A, B, alpha, beta = self.constants
        return float((alpha * A / (beta * B)) ** (1 / alpha) * tokens ** (beta / alpha))

    def tokens_for(self, params: float, reducible: float) -> float:
        """The D at which N parameters come so near to E; infinite where none does."""
        _, A, B, alpha, beta = self.constants
        left = reducible - A * params**-alpha
        if left <= 0:
            return math.inf
        log_tokens = (math.log(B) - math.log(left)) / beta
        return math.exp(log_tokens) if log_tokens < MOST_LOG else math.inf
