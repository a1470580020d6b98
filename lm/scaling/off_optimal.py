"""What another size than the best costs, by a law of the loss.

References:
  Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556,
    equation 2.
  de Vries 2023, Go smol or go home: the compute that a smaller model needs to catch up, by the same
    law.
"""

from dataclasses import dataclass

from lm.scaling.surface import Surface

FACTORS = (0.25, 0.5, 2.0, 4.0)


@dataclass(frozen=True)
class Price:
    """One size beside the best one of the same compute.

    Args:
      factor: N over N*.
      params, tokens: N, and D at the compute that both have.
      loss: at these.
      extra_loss: above the best of the compute.
      catch_up_tokens: D at which N reaches the best's loss; infinite where it never does.
      extra_compute: what that costs, as a share of the compute.
    """

    factor: float
    params: float
    tokens: float
    loss: float
    extra_loss: float
    catch_up_tokens: float
    extra_compute: float


def price(surface: Surface, flops: float, factor: float) -> Price:
    """Of `factor` times the best size at C = 6 N D."""
    best = surface.best(flops)
    params = factor * best.params
    tokens = flops / (6 * params)
    loss = surface.loss(params, tokens)
    catch_up = surface.tokens_for(params, surface.reducible(best.params, best.tokens))
    extra = 6 * params * catch_up / flops - 1
    return Price(factor, params, tokens, loss, loss - best.loss, catch_up, extra)
