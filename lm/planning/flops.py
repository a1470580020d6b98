"""Training FLOPs of one row, by named rules. Python integers: int32 and float32 would overflow.

A multiplication and an addition are two FLOPs; the backward pass costs twice the forward pass.
Rematerialisation is not counted, so a utilisation from these is MFU, not HFU (Chowdhery et al.
2022, appendix B).
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from lm.planning.counts import TABLES, parameter_sizes
from lm.planning.parameters import Model
from lm.shapes import is_matrix

Attention = Literal['full', 'causal_halved']

RULE_6N = '6N: 6 x matmul parameters with the output matrix, embedding look-ups not counted'
RULE_EXACT = {
    'full': 'exact matmuls, attention over all key positions',
    'causal_halved': 'exact matmuls, causal attention over positions up to the query only',
}
RULE_RECURRENT = 'exact matmuls; there is no attention'
TRAIN_OVER_FORWARD = 3


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of a forward and backward pass over one row.

    Attributes:
      rule: what is counted, in words for a reader of the figure.
      row: FLOPs of a row.
      tokens: tokens of a row, of both sides where there are two.
      by_group: `row` split by what is computed.
    """

    rule: str
    row: int
    tokens: int
    by_group: dict[str, int]

    @property
    def per_token(self) -> float:
        """FLOPs over tokens; in an encoder-decoder the mean over both sides' tokens."""
        return self.row / self.tokens


def train_flops(model: Model, seq_len: int, decoder_len: int | None = None) -> FlopCount:
    """The 6N rule (Kaplan et al. 2020, section 2.1): 6 N tokens, attention scores left out.

    N counts each matrix that multiplies activations, the output matrix too, tied or not. In an
    encoder-decoder 6 (N_enc tokens_in + N_dec tokens_out); the decoder's keys and values of
    cross-attention are counted with the decoder.

    Args:
      model: built or in closed form.
      seq_len: tokens of a row, the encoder's where there are two sides.
      decoder_len: tokens of the decoder's row; an encoder-decoder needs it.
    """
    lengths = _lengths(model, seq_len, decoder_len)
    by_group = {
        side: 2 * TRAIN_OVER_FORWARD * length * _matrices(model, side)
        for side, length in lengths.items()
    }
    reading = 'decoder' if 'decoder' in lengths else 'encoder'
    places = _head_places(model, lengths[reading])
    by_group['head'] = 2 * TRAIN_OVER_FORWARD * places * _head(model)
    if elsewhere := _elsewhere(model):
        by_group['elsewhere'] = 2 * TRAIN_OVER_FORWARD * lengths[reading] * elsewhere
    return FlopCount(RULE_6N, sum(by_group.values()), sum(lengths.values()), by_group)


def train_flops_exact(
    model: Model,
    seq_len: int,
    decoder_len: int | None = None,
    attention: Attention = 'full',
    asked: int | None = None,
) -> FlopCount:
    """Every matrix product of the model, attention's too; elementwise work is left out.

    Args:
      model: built or in closed form.
      seq_len: tokens of a row, the encoder's where there are two sides.
      decoder_len: tokens of the decoder's row; an encoder-decoder needs it.
      attention: `full` counts scores that the causal mask hides, which a plain kernel computes;
        `causal_halved` does not. Segments and windows are not looked at: what they hide, a plain
        kernel computes too.
      asked: places of a row at which a step computes the head; None: all.
    """
    lengths = _lengths(model, seq_len, decoder_len)
    forward: Counter[str] = Counter()
    for path, size in parameter_sizes(model).items():
        side, *rest = path.split('/')
        if side in lengths and is_matrix(model.dims[path]) and rest[0] == 'layers':
            # Cross-attention's keys and values are made from the encoder's tokens.
            memory = rest[1] == 'cross_attention' and rest[2] in ('key', 'value')
            length = lengths['encoder' if memory else side]
            forward[f'{side}/{rest[1]}'] += 2 * length * size
    for side, length in lengths.items():
        pairs = length * length
        if side == 'decoder' and attention == 'causal_halved':
            pairs = length * (length + 1) // 2
        if pair := _pair(model, f'{side}/layers/attention'):
            forward[f'{side}/scores'] += pair * pairs
        if pair := _pair(model, f'{side}/layers/cross_attention'):
            forward[f'{side}/cross_scores'] += pair * lengths['encoder'] * length
    reading = 'decoder' if 'decoder' in lengths else 'encoder'
    places = _head_places(model, lengths[reading]) if asked is None else asked
    forward['head'] += 2 * places * _head(model)
    if elsewhere := _elsewhere(model):
        forward['elsewhere'] += 2 * lengths[reading] * elsewhere
    by_group = {group: TRAIN_OVER_FORWARD * flops for group, flops in forward.items()}
    attends = any(group.endswith('scores') for group in forward)
    rule = RULE_EXACT[attention] if attends else RULE_RECURRENT
    if asked is not None:
        rule += f', the head at {asked} of {lengths[reading]} places'
    return FlopCount(rule, sum(by_group.values()), sum(lengths.values()), by_group)


def _lengths(model: Model, seq_len: int, decoder_len: int | None) -> dict[str, int]:
    """Tokens that each side of the model reads."""
    if model.family != 'encoder_decoder':
        return {model.family: seq_len}
    if decoder_len is None:
        raise ValueError('an encoder-decoder has two lengths: give decoder_len')
    return {'encoder': seq_len, 'decoder': decoder_len}


def _pair(model: Model, path: str) -> int:
    """FLOPs of a query and a key, in all layers of an attention: score and weighted value."""
    output = model.shapes.get(f'{path}/output')  # from heads and their width: LHKD
    return 0 if output is None else 4 * math.prod(output.shape[:-1])


def _matrices(model: Model, side: str) -> int:
    """Parameters of the matrices in a side's layers."""
    return sum(
        size
        for path, size in parameter_sizes(model).items()
        if path.startswith(f'{side}/layers/') and is_matrix(model.dims[path])
    )


def _elsewhere(model: Model) -> int:
    """Parameters of the matrices of a user's own model that are in no side's layers."""
    return sum(
        size
        for path, size in parameter_sizes(model).items()
        if path.split('/')[0] not in ('encoder', 'decoder', 'embedding', 'head')
        and is_matrix(model.dims[path])
        and not set(model.dims[path]) & set(TABLES)
    )


def _head_places(model: Model, length: int) -> int:
    """Places of a row that the head reads: the first, where the row has one label."""
    return 1 if model.config.head == 'sequence' else length


def _head(model: Model) -> int:
    """Parameters of the output matrix, which is the embedding's where there is none of its own."""
    sizes, dims = parameter_sizes(model), model.dims
    if model.config.predicts_labels:
        return sizes['head/weight'] + sizes.get('head/pooler/weight', 0)
    outputs = [size for path, size in sizes.items() if dims[path][1:] == 'V']
    output = sum(outputs) or model.config.tokens * model.config.d_model
    return output + sizes.get('head/transform/weight', 0)
