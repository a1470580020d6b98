"""What a forward pass keeps for its backward pass, in closed form. Imports no jax.

The terms are the arrays that JAX saves of `lm.models.layers.Layer`, `stack` and `embedding`, and
those of `lm.models.recurrent` and `recurrent_encoder_decoder`. Attention by XLA keeps scores and
probabilities, a fused kernel what it gives and a number or two a query and head.
`tests/planning/test_activations.py` compares them with the residuals of `jax.vjp`. They are still
estimates of memory: which arrays a compiler holds its `Compiler` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal, NamedTuple

from lm.attention.kernel import BLOCK, LANES, Kernel
from lm.models.recurrent_spec import CellKind, RecurrentSpec
from lm.models.spec import TransformerSpec
from lm.planning.axes import Axes
from lm.planning.compilers import AS_SAVED, Compiler
from lm.planning.parameters import ModelShape, sides

FP32 = 4
Remat = Literal['none', 'dots', 'full', 'offload']

REMATS: tuple[Remat, ...] = ('none', 'dots', 'full', 'offload')
"""Values of `model.remat`, from most memory to least."""

STREAMS_AT_WORK = 6
"""Arrays [B, T, D] that live beside scores and hidden states in a fused layer's backward pass:
queries, keys, values, what attention gives, the layer's input and the gradient that comes in."""

WIDE_HEAD = 128
"""Width of a head from which on libtpu writes the gradient of its scores in fp32, where heads share
no keys: otherwise it casts it in the operation that makes it. A TPU's matrix unit is 128 wide."""

STATE_ARRAYS: dict[CellKind, int] = {'lstm': 11, 'gru': 9}
"""Arrays [T, B, D], fp32, that a recurrent layer keeps of its gates and its state's arithmetic."""


@dataclass(frozen=True)
class Work:
    """What one device computes on at once.

    Attributes:
      rows: of a microbatch, on this device.
      lengths: positions of each side, of the whole row.
      axes: of them `tensor` and `seq` split a row's arrays.
      compute: bytes of a number in the dtype of the computation.
      compiler: whose program it is.
      kernel: what computes attention.
      asked: places of a row whose logits are computed; None: all.
    """

    rows: int
    lengths: Mapping[str, int]
    axes: Axes
    compute: int
    compiler: Compiler = AS_SAVED
    kernel: Kernel = Kernel()
    asked: int | None = None

    def positions(self, side: str) -> float:
        """Positions of a side on this device, over its rows."""
        return self.rows * self.lengths[side] / self.axes.seq

    def places(self, side: str) -> float:
        """Of the positions of a side that a head reads, those whose logits are computed."""
        return self.positions(side) if self.asked is None else self.rows * self.asked

    def head_width(self, width: int) -> int:
        """Numbers that a head takes: splash attention wants it along the lanes, which it fills."""
        return -(-width // LANES) * LANES if self.kernel.name == 'splash' else width

    def fuses(self, side: str, source: str) -> bool:
        """Whether no scores are kept of a side's attention to itself, or to another's positions."""
        name = side if source == side else 'cross-attention'
        return any(self.kernel.fuses(use) for use in self.kernel.uses if use.name == name)

    @property
    def sums(self) -> int:
        """Numbers a query and head that a kernel which fuses keeps of its softmax."""
        return 2 if self.kernel.name == 'blockwise' else 1


@dataclass(frozen=True)
class Activations:
    """Bytes on one device.

    Attributes:
      saved: kept from the forward pass to the backward pass, over all layers and both ends.
      logits: the logits and their gradient, in the dtype of the computation.
      layer: of the one layer that the backward pass works on: what it recomputes, the gradients
        of its scores and hidden states, and inputs of layers on their way from the host. Of
        unrolled layers that a compiler fuses, where nothing is recomputed: the probabilities in
        fp32, which one operation makes for all.
      host: in the memory of the host: every layer's input, where `remat` offloads it.
      rooms: times that the larger of logits and layer is counted, `Compiler.beside_stacks`.
      packing: as `Compiler.packing` says.
    """

    saved: float
    logits: float
    layer: float
    rooms: int
    packing: float
    host: float

    @property
    def peak(self) -> float:
        """Bytes at the fullest moment: with all logits, or with a layer at work."""
        beside = max(self.logits, self.layer)
        return self.packing * (self.saved + self.rooms * beside)


def activations(model: ModelShape, work: Work, remat: str) -> Activations:
    """Activations of one microbatch under a value of `model.remat`."""
    spec, compiler = model.spec, work.compiler
    kept = _kept(spec, model, work, remat)
    reading = sides(model.family)[-1]
    logits = 0.0
    if model.config.predicts_labels:
        logits = FP32 * work.rows * model.config.labels
        logits *= 1 if model.config.head == 'sequence' else work.positions(reading)
    elif spec.head or model.family != 'encoder':
        vocabulary = model.config.padded_vocab_size / work.axes.tensor
        logits = compiler.logits * work.compute * work.places(reading) * vocabulary
    stacks = remat == 'none' and model.config.scan_layers
    return Activations(
        kept.saved,
        logits,
        kept.layer,
        rooms=compiler.beside_stacks if stacks else 1,
        packing=compiler.packing[remat],
        host=kept.host,
    )


class Kept(NamedTuple):
    """Bytes kept before the logits; fields as of `Activations`."""

    saved: float
    layer: float
    host: float


@singledispatch
def _kept(spec: Any, model: ModelShape, work: Work, remat: str) -> Kept:
    raise TypeError(f'activations of a {type(spec).__name__} are not known')


@_kept.register
def _(spec: TransformerSpec, model: ModelShape, work: Work, remat: str) -> Kept:
    layers, compiler = model.config.num_layers, work.compiler
    saved = layer = unrolled = host = 0.0
    for side in sides(model.family):
        crosses = len(work.lengths) == 2 and side == 'decoder'
        sources = [side, 'encoder'] if crosses else [side]
        kept = _layer(spec, work, side, sources, remat)
        saved += layers * kept + _ends_of_stack(spec, work, side)
        inputs = work.compute * work.positions(side) * model.config.d_model
        host += layers * inputs * (remat == 'offload')
        if remat == 'none' and compiler.head_masks:
            patterns = 1 if model.config.scan_layers else layers
            masks = layers if spec.global_every else patterns
            scores = sum(_scores(spec, work, side, source) for source in sources)
            saved += (masks + patterns * FP32) * scores
        again = 0.0 if remat == 'none' else _again(spec, work, side, sources)
        gradients = sum(FP32 * _scores_at_work(spec, work, side, source) for source in sources)
        gradients += 2 * work.compute * _hidden(spec, work, side)
        # Fused, gradients take the place of what they are computed from.
        fused = compiler.fuses_layers and remat != 'none'
        on_the_way = 2 * inputs * (remat == 'offload')
        layer = max(layer, on_the_way + (again if fused else again + gradients))
        if compiler.fuses_layers and remat == 'none' and not model.config.scan_layers:
            unrolled += layers * sum(FP32 * _scores(spec, work, side, s) for s in sources)
    saved += _head(spec, work, sides(model.family)[-1])
    return Kept(saved, max(layer, unrolled), host)


@_kept.register
def _(spec: RecurrentSpec, model: ModelShape, work: Work, remat: str) -> Kept:
    """The same whatever the compiler: how libtpu lays out a loop over positions was not looked at.

    Beside a layer at work lies the gradient of what its gates read.
    """
    c, masks = work.compute, bool(spec.config.dropout)
    saved = layer = host = 0.0
    for side in sides(model.family):
        residual = work.positions(side) * spec.config.d_model
        both_ways, crosses = side == 'encoder', len(work.lengths) == 2 and side == 'decoder'
        # The layer's input, for one that reads backward also turned round, and the state, each as
        # it is multiplied.
        whole = residual * ((2 + both_ways) * c + FP32 * STATE_ARRAYS[spec.cell] + masks)
        gates = c * spec.gates * residual
        kept = {
            'none': whole,
            'dots': c * residual + 2 * gates,
            'full': c * residual,
            'offload': 0.0,
        }
        gradients = gates
        if crosses:
            kept['none'] += _attending(spec, work, 'none')
            kept['dots'] += _attending(spec, work, 'dots')
            gradients += FP32 * _held_pairs(work)
        offloaded = c * residual * (remat == 'offload')
        host += spec.config.num_layers * offloaded
        ends = residual * (c + masks * (1 + c))
        saved += spec.config.num_layers * kept[remat] + ends
        again = kept['none'] * (remat != 'none') + 2 * offloaded
        layer = max(layer, again + gradients)
    return Kept(saved, layer, host)


def _attending(spec: RecurrentSpec, work: Work, remat: str) -> float:
    """Bytes kept of a recurrent decoder's attention to the encoder, by one head."""
    c, residual = work.compute, work.positions('decoder') * spec.config.d_model
    fused = work.fuses('decoder', 'encoder')
    sums = fused * work.sums * FP32 * work.positions('decoder')
    if remat == 'dots':
        # The three products.
        return (3 + fused) * c * residual + sums
    # The cell's states, queries, what they see in two orders, and the tanh.
    return 5 * c * residual + sums + (FP32 + c) * _held_pairs(work)


def _held_pairs(work: Work) -> float:
    """Scores of a recurrent decoder's attention that are held: none of a fused kernel."""
    fused = work.fuses('decoder', 'encoder')
    return 0.0 if fused else work.positions('decoder') * work.lengths['encoder']


def _again(spec: TransformerSpec, work: Work, side: str, sources: list[str]) -> float:
    """Bytes of a layer that is recomputed while the backward pass works on it."""
    if not work.compiler.fuses_layers:
        return _layer(spec, work, side, sources, 'none')
    # Probabilities in fp32 and the gradient of the scores, of one attention at a time; hidden
    # states before and after the activation, or their gradients.
    config = spec.config
    wide = config.head_width >= WIDE_HEAD and config.kv_heads == config.num_heads
    gradient = FP32 if wide else work.compute
    scores = max((FP32 + gradient) * _scores_at_work(spec, work, side, s) for s in sources)
    hidden = (2 + 2 * spec.gated) * _hidden(spec, work, side)
    streams = STREAMS_AT_WORK * work.positions(side) * spec.config.d_model
    return scores + work.compute * (hidden + streams)


def _layer(spec: TransformerSpec, work: Work, side: str, sources: list[str], remat: str) -> float:
    """Bytes kept of one layer; `sources` are the sides that its attentions read."""
    c, residual = work.compute, work.positions(side) * spec.config.d_model
    if remat in ('full', 'offload'):
        return c * residual * (remat == 'full')
    tensor = work.axes.tensor
    width = work.head_width(spec.config.head_width)
    queries = work.positions(side) * spec.config.num_heads * width / tensor
    # Keys and values are gathered along `seq`: each device holds those of the whole row.
    keys = [
        work.rows * work.lengths[source] * spec.config.kv_heads * width / tensor
        for source in sources
    ]
    hidden = _hidden(spec, work, side)
    # What a kernel gives, and what it keeps of each query's softmax.
    fused = sum(work.fuses(side, source) for source in sources)
    sums = fused * work.sums * FP32 * work.positions(side) * spec.config.num_heads / tensor
    if remat == 'dots':
        # The layer's input and the products with weights; of those that write to the residual
        # stream the last is not read again where the norm comes first, and none where they are
        # computed side by side.
        streams = 1 if spec.parallel else 1 + len(sources) + (not spec.norm_first)
        heads = sum(queries + 2 * k for k in keys)
        return c * (streams * residual + heads + fused * queries + (1 + spec.gated) * hidden) + sums
    sublayers = len(sources) + 1
    # Of a norm what it reads and what it makes; side by side norms read the same.
    total = sums + c * residual * (sublayers + (1 if spec.parallel else sublayers))
    for source, k in zip(sources, keys, strict=True):
        total += c * (2 * queries + 2 * k) + (FP32 + c) * _scores(spec, work, side, source)
        total += c * (queries + k) * spec.qk_norm
    # JAX saves what splash gives in its order of heads and positions and in the next product's; of
    # these XLA:TPU seems to hold one, by the sizes.
    both = work.kernel.name == 'splash' and not work.compiler.fuses_layers
    total += c * fused * queries * both
    # Before the activation, the gate's too, and behind it.
    total += c * (2 + spec.gated) * hidden
    if spec.config.dropout:
        total += sublayers * residual + spec.dropout_inside * hidden
    return total


def _hidden(spec: TransformerSpec, work: Work, side: str) -> float:
    """Numbers in a feed-forward layer's hidden state."""
    return work.positions(side) * spec.feed_forward_width / work.axes.tensor


def _scores(spec: TransformerSpec, work: Work, side: str, source: str) -> float:
    """Numbers in the scores of one layer's attention that are held: none of a fused kernel."""
    return 0.0 if work.fuses(side, source) else _pairs(spec, work, side, source)


def _scores_at_work(spec: TransformerSpec, work: Work, side: str, source: str) -> float:
    """Numbers in the scores that the backward pass works on at once."""
    if work.kernel.name == 'blockwise' and work.fuses(side, source):
        return BLOCK / work.lengths[side] * _pairs(spec, work, side, source)
    return _scores(spec, work, side, source)


def _pairs(spec: TransformerSpec, work: Work, side: str, source: str) -> float:
    """Heads times pairs of a query and a key of one layer's attention."""
    heads = spec.config.num_heads / work.axes.tensor
    return work.positions(side) * work.lengths[source] * heads


def _ends_of_stack(spec: TransformerSpec, work: Work, side: str) -> float:
    """Bytes kept of norms and dropout round the layers, and of the bias by distance."""
    residual = work.positions(side) * spec.config.d_model
    # What the norms read.
    total = (spec.embedding_norm + spec.norm_first) * residual * work.compute
    # What is handed on: to the decoder, or to a head, whose transform's input `_head` counts.
    total += (not spec.head_transform) * residual * work.compute
    if spec.config.dropout:
        total += (1 + spec.dropout_inside) * residual * (1 + work.compute)
    if spec.positions.kind in ('relative', 'alibi'):
        total += FP32 * _pairs(spec, work, side, side) / work.rows
    if spec.positions.kind == 'rope':
        tables = 1 + (spec.positions.local_rope_theta is not None)
        total += tables * FP32 * work.positions(side) * spec.rotary_width
    return total


def _head(spec: TransformerSpec, work: Work, side: str) -> float:
    """Bytes kept of what comes before the output matrix."""
    if not spec.head_transform or not spec.head or spec.config.predicts_labels:
        return 0.0
    # What the transform, its activation and its norm read, and what the norm makes.
    return 4 * work.compute * work.places(side) * spec.config.d_model
