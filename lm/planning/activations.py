"""What a forward pass keeps for its backward pass, in closed form. Imports no jax.

The terms are the arrays that JAX saves of `lm.models.layers.Layer`, `stack` and `embedding` with
attention by XLA, whose scores and probabilities are arrays. `tests/planning/test_activations.py`
compares them with the residuals of `jax.vjp`. They are still estimates of memory: a compiler may
fuse some away, and a fused attention kernel keeps no scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lm.models.spec import TransformerSpec
from lm.planning.axes import Axes
from lm.planning.parameters import ModelShape, sides

FP32 = 4
Remat = Literal['none', 'dots', 'full']

REMATS: tuple[Remat, ...] = ('none', 'dots', 'full')
"""Values of `model.remat`, from most memory to least."""

ACTIVATION_ARRAYS = {'silu': 4, 'gelu': 4, 'gelu_tanh': 6, 'relu': 1}
"""Arrays [B, T, F] kept of an ungated feed-forward layer: hidden states and what the derivative
of the activation reads. A gate adds two, and ReLU a mask of bytes."""


@dataclass(frozen=True)
class Work:
    """What one device computes on at once.

    Attributes:
      rows: of a microbatch, on this device.
      lengths: positions of each side, of the whole row.
      axes: of them `tensor` and `seq` split a row's arrays.
      compute: bytes of a number in the dtype of the computation.
    """

    rows: int
    lengths: Mapping[str, int]
    axes: Axes
    compute: int

    def positions(self, side: str) -> float:
        """Positions of a side on this device, over its rows."""
        return self.rows * self.lengths[side] / self.axes.seq


@dataclass(frozen=True)
class Activations:
    """Bytes on one device.

    Attributes:
      saved: kept from the forward pass to the backward pass, over all layers and both ends.
      logits: the logits and their gradient, fp32.
      layer: of the one layer that the backward pass works on: what it recomputes, and the
        gradients of its scores and hidden states.
    """

    saved: float
    logits: float
    layer: float

    @property
    def peak(self) -> float:
        """Bytes at the fullest moment: the logits are gone when the layers' turn comes."""
        return self.saved + max(self.logits, self.logits / 2 + self.layer)


def activations(model: ModelShape, work: Work, remat: str) -> Activations:
    """Activations of one microbatch under a value of `model.remat`."""
    spec, layers = model.spec, model.config.num_layers
    saved = layer = 0.0
    for side in sides(model.family):
        crosses = len(work.lengths) == 2 and side == 'decoder'
        sources = [side, 'encoder'] if crosses else [side]
        kept = _layer(spec, work, side, sources, remat)
        everything = _layer(spec, work, side, sources, 'none')
        saved += layers * kept + _ends_of_stack(spec, work, side)
        if remat == 'none':
            patterns = 1 if model.config.scan_layers else layers
            saved += patterns * sum((1 + FP32) * _scores(spec, work, side, s) for s in sources)
        again = 0.0 if remat == 'none' else everything
        gradients = sum(FP32 * _scores(spec, work, side, source) for source in sources)
        gradients += 2 * work.compute * _hidden(spec, work, side)
        layer = max(layer, again + gradients)
    reading = sides(model.family)[-1]
    saved += _head(model, work, reading)
    logits = 0.0
    if spec.head or model.family != 'encoder':
        vocabulary = model.config.padded_vocab_size / work.axes.tensor
        logits = 2 * FP32 * work.positions(reading) * vocabulary
    return Activations(saved, logits, layer)


def _layer(spec: TransformerSpec, work: Work, side: str, sources: list[str], remat: str) -> float:
    """Bytes kept of one layer; `sources` are the sides that its attentions read."""
    c, residual = work.compute, work.positions(side) * spec.config.d_model
    if remat == 'full':
        return c * residual
    tensor = work.axes.tensor
    queries = work.positions(side) * spec.config.num_heads * spec.config.head_width / tensor
    # Keys and values are gathered along `seq`: each device holds those of the whole row.
    keys = [
        work.rows * work.lengths[source] * spec.config.kv_heads * spec.config.head_width / tensor
        for source in sources
    ]
    hidden = _hidden(spec, work, side)
    if remat == 'dots':
        # The layer's input and the products with weights; of those that write to the residual
        # stream the last is not read again where the norm comes first, and none where they are
        # computed side by side.
        streams = 1 if spec.parallel else 1 + len(sources) + (not spec.norm_first)
        heads = sum(queries + 2 * k for k in keys)
        return c * (streams * residual + heads + (1 + spec.gated) * hidden)
    sublayers = len(sources) + 1
    # A norm keeps three fp32 arrays, and what it makes is kept in the dtype of the computation.
    total = sublayers * residual * (3 * FP32 + c)
    for source, k in zip(sources, keys, strict=True):
        total += c * (2 * queries + 2 * k) + (FP32 + c) * _scores(spec, work, side, source)
        total += 3 * FP32 * (queries + k) * spec.qk_norm
    total += c * (ACTIVATION_ARRAYS[spec.activation] + 2 * spec.gated) * hidden
    total += hidden * (spec.activation == 'relu')
    if spec.config.dropout:
        total += sublayers * residual + spec.dropout_inside * hidden
    return total


def _hidden(spec: TransformerSpec, work: Work, side: str) -> float:
    """Numbers in a feed-forward layer's hidden state."""
    return work.positions(side) * spec.feed_forward_width / work.axes.tensor


def _scores(spec: TransformerSpec, work: Work, side: str, source: str) -> float:
    """Numbers in the scores of one layer's attention."""
    heads = spec.config.num_heads / work.axes.tensor
    return work.positions(side) * work.lengths[source] * heads


def _ends_of_stack(spec: TransformerSpec, work: Work, side: str) -> float:
    """Bytes kept of norms and dropout round the layers, and of the bias by distance."""
    residual = work.positions(side) * spec.config.d_model
    total = (spec.embedding_norm + spec.norm_first) * residual * 3 * FP32
    # What is handed on: to the decoder, or to a head, whose transform's input `_head` counts.
    total += (not spec.head_transform) * residual * work.compute
    if spec.config.dropout:
        total += (1 + spec.dropout_inside) * residual * (1 + work.compute)
    if spec.positions.kind in ('relative', 'alibi'):
        total += FP32 * _scores(spec, work, side, side) / work.rows
    return total


def _head(model: ModelShape, work: Work, side: str) -> float:
    """Bytes kept of what comes before the output matrix."""
    if not model.spec.head_transform or not model.spec.head:
        return 0.0
    residual = work.positions(side) * model.config.d_model
    return residual * (3 * FP32 + (1 + ACTIVATION_ARRAYS[model.spec.activation]) * work.compute)
