"""The parameters of a model in closed form, from its spec alone. Imports no jax.

What `lm.models` builds of a spec, written down once more: `tests/planning/test_parameters.py`
holds the two equal.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lm import registry
from lm.config import ModelConfig, require
from lm.models.recurrent_spec import RecurrentSpec, Width
from lm.models.spec import TransformerSpec
from lm.shapes import Dims


@runtime_checkable
class Model(Protocol):
    """What counting reads of a model, built (`lm.models.functional`) or in closed form."""

    @property
    def config(self) -> ModelConfig:
        """The sizes."""

    @property
    def family(self) -> str:
        """`encoder`, `decoder` or `encoder_decoder`."""

    @property
    def dims(self) -> Dims:
        """The dimension letters of each parameter."""

    @property
    def shapes(self) -> Mapping[str, Any]:
        """What has a `shape`, for each parameter."""


class Shape(NamedTuple):
    """The size of one parameter's array, the vocabulary's padding included."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelShape:
    """A model that was never built.

    Attributes:
      config: its sizes, with options of its architecture's own type.
      family: `encoder`, `decoder` or `encoder_decoder`.
      spec: what it is made of.
      dims: the dimension letters of each parameter; those of stacked layers begin with `L`.
      shapes: their sizes.
    """

    config: ModelConfig
    family: str
    spec: TransformerSpec | RecurrentSpec
    dims: Dims
    shapes: dict[str, Shape]


def model_shape(config: ModelConfig) -> ModelShape:
    """The parameters that `lm.models.functional.functional(config, ...)` would have.

    Raises:
      UserError: no such architecture, one without a `spec`, or a size that it cannot have.
    """
    member = registry.lookup('models', config.name, 'model.name')
    require(
        hasattr(member, 'spec'),
        f'model.name={config.name}: defines no spec(config), from which its parameters are counted',
    )
    if type(config.options) is not member.Options:
        config = dataclasses.replace(config, options=member.Options())
    spec = member.spec(config)
    sizes = _sizes(spec)
    dims = dict(_model(spec, member.FAMILY))
    shapes = {path: Shape(tuple(sizes[x] for x in letters)) for path, letters in dims.items()}
    return ModelShape(config, member.FAMILY, spec, dims, shapes)


def sides(family: str) -> tuple[str, ...]:
    """The stacks of layers, in the order in which they run."""
    return ('encoder', 'decoder') if family == 'encoder_decoder' else (family,)


@singledispatch
def _sizes(spec: Any) -> dict[str, int]:
    raise TypeError(f'sizes of a {type(spec).__name__} are not known')


@_sizes.register
def _(spec: TransformerSpec) -> dict[str, int]:
    config = spec.config
    return {
        'D': config.d_model,
        'F': spec.feed_forward_width,
        'G': config.kv_heads,
        'H': config.num_heads,
        'I': config.num_layers - 1,
        'K': config.head_width,
        'L': config.num_layers,
        'P': spec.position_rows,
        'R': spec.positions.buckets,
        'O': config.labels if config.predicts_labels else 0,
        'V': config.padded_vocab_size,
        'Y': spec.token_types,
    }


@_sizes.register
def _(spec: RecurrentSpec) -> dict[str, int]:
    config = spec.config
    return {
        'D': config.d_model,
        'E': spec.widths['E'],
        'L': config.num_layers,
        'Q': spec.gates,
        'V': config.padded_vocab_size,
    }


Parts = Iterator[tuple[str, str]]
"""Paths and dimension letters."""


@singledispatch
def _model(spec: Any, family: str) -> Parts:
    raise TypeError(f'parameters of a {type(spec).__name__} are not known')


@_model.register
def _(spec: TransformerSpec, family: str) -> Parts:
    yield 'embedding/tokens', 'VD'
    for side in sides(family):
        crosses = family == 'encoder_decoder' and side == 'decoder'
        yield from _under(side, _stack(spec, crosses))
    if family == 'encoder' and spec.config.predicts_labels:
        yield from _under('head', _label_head(spec))
    elif spec.head or family != 'encoder':
        yield from _under('head', _head(spec))


@_model.register
def _(spec: RecurrentSpec, family: str) -> Parts:
    yield 'embedding/tokens', 'VD'
    if family == 'decoder':
        yield from _under('decoder/layers', _cell(spec, 'D'))
    else:
        for direction in ('forward', 'backward'):
            yield from _under(f'encoder/layers/{direction}', _cell(spec, 'E'))
        yield from _under('decoder/layers/cell', _cell(spec, 'D'))
        for name in ('query', 'output', 'state'):
            yield f'decoder/layers/cross_attention/{name}', 'LDD'
    if not spec.tied:
        yield 'head/output', 'DV'


def _cell(spec: RecurrentSpec, width: Width) -> Parts:
    yield 'input', f'LDQ{width}'
    yield 'recurrent', f'L{width}Q{width}'
    yield 'bias', f'LQ{width}'
    if spec.cell == 'gru':
        yield 'reset_bias', f'L{width}'


def _stack(spec: TransformerSpec, crosses: bool) -> Parts:
    if spec.positions.kind == 'learned':
        yield 'learned_positions/table', 'PD'
    if spec.positions.kind == 'relative':
        yield 'relative_positions/table', 'RH'
    if spec.token_types:
        yield 'token_types', 'YD'
    if spec.embedding_norm:
        yield from _norm(spec, 'embedding_norm')
    for path, letters in _layer(spec, crosses):
        yield f'layers/{path}', f'L{letters}'
    if not spec.first_norm and spec.config.num_layers > 1:
        yield from _norm(spec, 'inner_attention_norm', 'ID')
    if spec.norm_first:
        yield from _norm(spec, 'final_norm')


def _layer(spec: TransformerSpec, crosses: bool) -> Parts:
    for name in ('attention', 'cross_attention') if crosses else ('attention',):
        yield from _under(name, _attention(spec))
        if spec.first_norm or name == 'cross_attention':
            yield from _norm(spec, f'{name}_norm')
    if spec.gated:
        yield 'feed_forward/gate', 'DF'
    yield 'feed_forward/up', 'DF'
    yield 'feed_forward/down', 'FD'
    if spec.biases:
        yield 'feed_forward/up_bias', 'F'
        yield 'feed_forward/down_bias', 'D'
    yield from _norm(spec, 'feed_forward_norm')


def _attention(spec: TransformerSpec) -> Parts:
    for name, letters in {'query': 'HK', 'key': 'GK', 'value': 'GK'}.items():
        yield name, f'D{letters}'
        if spec.biases or spec.qkv_biases:
            yield f'{name}_bias', letters
    yield 'output', 'HKD'
    if spec.biases:
        yield 'output_bias', 'D'
    if spec.qk_norm:
        yield from _norm(spec, 'query_norm', 'K')
        yield from _norm(spec, 'key_norm', 'K')


def _norm(spec: TransformerSpec, path: str, letter: str = 'D') -> Parts:
    yield f'{path}/scale', letter
    if spec.norm == 'layer' and spec.norm_bias:
        yield f'{path}/bias', letter


def _head(spec: TransformerSpec) -> Parts:
    if spec.head_transform:
        yield 'transform/weight', 'DD'
        if spec.biases:
            yield 'transform/bias', 'D'
        yield from _norm(spec, 'transform/norm')
    if not spec.tied:
        yield 'output', 'DV'
    if spec.head_bias:
        yield 'bias', 'V'


def _label_head(spec: TransformerSpec) -> Parts:
    if spec.config.head == 'sequence':
        yield 'pooler/weight', 'DD'
        yield 'pooler/bias', 'D'
    yield 'weight', 'DO'
    yield 'bias', 'O'


def _under(path: str, parts: Parts) -> Parts:
    for name, letters in parts:
        yield f'{path}/{name}', letters
