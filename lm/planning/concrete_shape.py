"""Layers, width and heads for a number of parameters: of a LLaMA, by a stated rule. No jax."""

import math
from dataclasses import dataclass

from lm.config import ModelConfig
from lm.errors import UserError
from lm.models.spec import gated_width
from lm.planning.counts import ParameterCount, count_parameters
from lm.planning.parameters import model_shape

ASPECT = 100.0
"""Width over layers that is aimed at: 102 in LLaMA 65B and Chinchilla, 128 in GPT-3 175B. The loss
hardly depends on it (Kaplan et al. 2020, section 3.1 and figure 5)."""
CLOSE = 0.02
"""Shapes whose parameters are this near to those asked for are judged by their aspect alone."""
STEPS = {1024: 64, 2048: 128, 8192: 512}
"""Widths below these go in such steps, tiles of a matrix unit; larger ones in `WIDEST_STEP`."""
WIDEST_STEP = 1024
MOST = 1e16
"""No shape is sought for more parameters."""
RULE = (
    'a LLaMA: width in steps of 64, from 1024 on 128, from 2048 on 512, from 8192 on 1024; heads '
    f'of 64 below 1024, of 128 above; parameters within {CLOSE:.0%}, then width / layers nearest '
    f'{ASPECT:g}'
)


@dataclass(frozen=True)
class ConcreteShape:
    """A decoder that can be trained.

    Attributes:
      config: the sizes, of the architecture `llama`.
      count: its parameters, exactly; `total` is what was asked for, the embeddings included.
      asked: the parameters asked for.
    """

    config: ModelConfig
    count: ParameterCount
    asked: float

    @property
    def off(self) -> float:
        """By which share its parameters miss those asked for."""
        return self.count.total / self.asked - 1


def concrete_shape(params: float, vocab_size: int) -> ConcreteShape:
    """The shape for a number of parameters, both embeddings counted.

    Raises:
      UserError: one layer of the narrowest model has more by a tenth, or they are beyond `MOST`.
    """
    if not 0 < params <= MOST:
        raise UserError(f'params={params:.4g}: shapes are of up to {MOST:g} parameters')
    found = [
        shape for width in _widths(params) if (shape := _shape(params, width, vocab_size)).off < 0.1
    ]
    if not found:
        least = _shape(params, _step(0), vocab_size).count.total
        raise UserError(
            f'params={params:.4g}: no shape has so few; one layer of width {_step(0)} with '
            f'vocab_size={vocab_size} has {least:,}'
        )
    return min(found, key=_badness)


def _badness(shape: ConcreteShape) -> tuple[float, float]:
    """How far off the parameters are beyond `CLOSE`, then the aspect."""
    config = shape.config
    aspect = abs(math.log(config.d_model / config.num_layers / ASPECT))
    return max(abs(shape.off) - CLOSE, 0.0), aspect


def _widths(params: float) -> list[int]:
    """Widths up to that of a third of `ASPECT`'s layers; N is about 12 layers width^2."""
    highest = (3 * ASPECT * params / 12) ** (1 / 3)
    lowest = highest / 6 if params > 1e9 else 0.0
    widths, width = [], _step(0)
    while width <= max(highest, _step(0)):
        if width >= lowest:
            widths.append(width)
        width += _step(width)
    return widths


def _step(width: int) -> int:
    return next((step for below, step in STEPS.items() if width < below), WIDEST_STEP)


def _shape(params: float, width: int, vocab_size: int) -> ConcreteShape:
    """The number of layers that comes nearest at that width."""
    one, two = (_count(layers, width, vocab_size).total for layers in (1, 2))
    layers = max(1, round((params - one) / (two - one)) + 1)
    return ConcreteShape(
        _config(layers, width, vocab_size), _count(layers, width, vocab_size), params
    )


def _count(layers: int, width: int, vocab_size: int) -> ParameterCount:
    return count_parameters(model_shape(_config(layers, width, vocab_size)))


def _config(layers: int, width: int, vocab_size: int) -> ModelConfig:
    head = 64 if width < 1024 else 128
    return ModelConfig(
        name='llama', num_layers=layers, d_model=width, num_heads=width // head,
        d_ff=gated_width(width), vocab_size=vocab_size,
    )  # fmt: skip
