"""The size that is cheapest over training and use, at the quality that a compute would buy.

References:
  Sardana et al. 2023, Beyond Chinchilla-Optimal: Accounting for Inference in Language Model Scaling
    Laws, arXiv 2401.00448, section 2, equation 3.
"""

import math
import sys
from dataclasses import dataclass

from scipy.optimize import brentq

from lm.errors import UserError
from lm.scaling.surface import Surface


@dataclass(frozen=True)
class InferenceOptimum:
    """N and D that minimise 6 N D + 2 N D_inference at the loss of the compute's best model.

    Args:
      params, tokens: N and D.
      loss: of both models.
      train_flops, inference_flops: 6 N D and 2 N D_inference.
      saved: what the compute's best model costs more over training and use, as a share of its.
    """

    params: float
    tokens: float
    loss: float
    train_flops: float
    inference_flops: float
    saved: float


def inference_optimum(surface: Surface, flops: float, inference_tokens: float) -> InferenceOptimum:
    """The cheapest of the models as good as the best of a compute.

    Along L(N, D) = const, d ln D / d ln N = -e with e = alpha A N^-alpha / (beta B D^-beta), so the
    cost is least where 6 D (e - 1) = 2 D_inference; the left side falls as N grows, and is nil at
    the compute's best N.

    Args:
      surface: the law.
      flops: the C whose best model's loss is to be reached.
      inference_tokens: read and written over the model's life.

    Raises:
      UserError: `inference_tokens` is not positive and finite.
    """
    if not (math.isfinite(inference_tokens) and inference_tokens > 0):
        raise UserError(
            f'inference_tokens={inference_tokens:g}: must be positive and finite, such as 1e12'
        )
    best = surface.best(flops)
    _, A, B, alpha, beta = surface.constants
    reducible = surface.reducible(best.params, best.tokens)

    def excess(log_params: float) -> float:
        """ln of 6 D (e - 1) over 2 D_inference."""
        of_params = A * math.exp(-alpha * log_params)
        of_tokens = reducible - of_params
        log_tokens = (math.log(B) - math.log(of_tokens)) / beta
        over_one = max(alpha * of_params / (beta * of_tokens) - 1, sys.float_info.min)
        return math.log(3) + log_tokens - math.log(inference_tokens) + math.log(over_one)

    # At `least` and below no number of tokens reaches the loss.
    least, most = math.log(A / reducible) / alpha, math.log(best.params)
    lowest = least + (most - least) * 1e-10
    if excess(lowest) <= 0:
        raise UserError(
            f'inference_tokens={inference_tokens:g}: so many leave no size but that of endless '
            'training; give fewer'
        )
    # So little use may leave the root within rounding of the compute's best.
    root = most
    if excess(most) < 0:
        root = float(brentq(excess, lowest, most, xtol=1e-14, rtol=1e-14))
    params = math.exp(root)
    tokens = surface.tokens_for(params, reducible)
    train, inference = 6 * params * tokens, 2 * params * inference_tokens
    plain = flops + 2 * best.params * inference_tokens
    return InferenceOptimum(
        params, tokens, best.loss, train, inference, 1 - (train + inference) / plain
    )
