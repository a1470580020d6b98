"""How a model attends, as far as kernels of attention differ in it. Imports no jax."""

from collections.abc import Mapping
from typing import Any

from lm.attention.kernel import Use
from lm.config import ModelConfig
from lm.models.recurrent_spec import RecurrentSpec
from lm.models.spec import TransformerSpec


def uses(spec: Any, lengths: Mapping[str, int], *, prefix: bool) -> tuple[Use, ...]:
    """The uses of attention in a model; none of one that has no attention.

    Args:
      spec: the model's; None where it is not known.
      lengths: positions of each side of a row.
      prefix: whether a decoder's rows have one (`Batch.prefix`).
    """
    found = []
    own = lengths.items() if isinstance(spec, TransformerSpec) else ()
    for side, length in own:
        causal = side == 'decoder'
        window: Any = 'none'
        if spec.attention_window is not None:
            window = 'causal' if causal else 'both ways'
            window = 'by layer' if spec.global_every else window
        bias = spec.positions.kind in ('relative', 'alibi')
        own_prefix = prefix and causal and len(lengths) == 1
        found.append(Use(side, length, bias=bias, prefix=own_prefix, window=window))
    attends = isinstance(spec, TransformerSpec | RecurrentSpec)
    if attends and len(lengths) == 2:
        found.append(Use('cross-attention', lengths['decoder'], crosses=True))
    return tuple(found)


def head_width(spec: Any, config: ModelConfig) -> int:
    """Width of the heads that attend; a recurrent decoder has one, as wide as the model.

    Args:
      spec: the model's; None where it is not known.
      config: its sizes.
    """
    return config.d_model if isinstance(spec, RecurrentSpec) else config.head_width
