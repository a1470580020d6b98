"""T5 1.0 and 1.1 (and mT5, the latter's architecture): `T5ForConditionalGeneration`."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.t5 import Options, feed_forward_width

MODEL_TYPES = ('t5', 'mt5')

_ACTIVATIONS = {'relu': 'relu', 'gated-gelu': 'gelu_new'}
"""Feed-forward layers, and what a file may call their activation besides."""
_UNREAD = r'decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight'
_BLOCK = '{side}.block.{{}}.layer.'


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`: of T5 1.0 if its outputs are scaled, else of 1.1.

    Newer versions of transformers tie the output matrix to the embedding of 1.1 too and write no
    copy of it; such a file's embedding is read into both.
    """
    kind = foreign.model_type
    # Unsaid, T5's is 1.0's ReLU and mT5's the gated GELU; and mT5's outputs are never scaled.
    foreign.only('feed_forward_proj', 'relu' if kind == 't5' else 'gated-gelu', *_ACTIVATIONS)
    activation = foreign.take('feed_forward_proj', str, 'relu' if kind == 't5' else 'gated-gelu')
    foreign.only('dense_act_fn', _ACTIVATIONS[activation])
    foreign.only('is_gated_act', activation == 'gated-gelu')
    foreign.only('is_encoder_decoder', True)
    foreign.only('decoder_start_token_id', foreign.take('pad_token_id', int, 0))
    tied = foreign.take('tie_word_embeddings', bool, True)
    scaled = foreign.take('scale_decoder_outputs', bool, tied)
    layers = foreign.size('num_layers')
    foreign.only('num_decoder_layers', layers)
    return ModelConfig(
        name='t5',
        num_layers=layers,
        d_model=foreign.size('d_model'),
        num_heads=foreign.size('num_heads'),
        head_dim=foreign.size('d_kv', 64),
        d_ff=foreign.size('d_ff'),
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('n_positions', 512),
        dropout=foreign.fraction('dropout_rate', 0.1),
        options=Options(
            norm_eps=foreign.number('layer_norm_epsilon', 1e-6),
            gated=activation == 'gated-gelu',
            tie_embeddings=scaled and kind == 't5',
            relative_buckets=foreign.size('relative_attention_num_buckets', 32),
            relative_max_distance=foreign.size('relative_attention_max_distance', 128),
        ),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model."""
    options: Options = config.options
    require_option(config, 'positions', 'relative')
    require_one_group(config)
    return {
        'architectures': ['T5ForConditionalGeneration'],
        'model_type': 't5',
        'd_model': config.d_model,
        'd_kv': config.head_width,
        'd_ff': config.d_ff or feed_forward_width(config),
        'num_layers': config.num_layers,
        'num_decoder_layers': config.num_layers,
        'num_heads': config.num_heads,
        'feed_forward_proj': 'gated-gelu' if options.gated else 'relu',
        'is_encoder_decoder': True,
        'dropout_rate': config.dropout,
        'layer_norm_epsilon': options.norm_eps,
        'n_positions': config.max_positions,
        'relative_attention_num_buckets': options.relative_buckets,
        'relative_attention_max_distance': options.relative_max_distance,
        'tie_word_embeddings': options.tie_embeddings,
        'vocab_size': config.tokens,
    }


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    options: Options = config.options
    embedding, tied = 'shared.weight', options.tie_embeddings
    head = Tensor('lm_head.weight', 'VD', ('head/output',), instead=embedding)
    copies = ['encoder.embed_tokens.weight', 'decoder.embed_tokens.weight']
    if tied:
        copies.append(head.name)
    return Table(
        tensors=(
            Tensor(embedding, 'VD', ('embedding/tokens',)),
            *([] if tied else [head]),
            *_side('encoder', options),
            *_side('decoder', options),
        ),
        copies=dict.fromkeys(copies, embedding),
        left_out={_UNREAD: 'a bias of cross-attention, which the released code never reads'},
    )


def _side(side: str, options: Options) -> list[Tensor]:
    block, ours = _BLOCK.format(side=side), f'{side}/layers/'
    last = 2 if side == 'decoder' else 1
    tensors = [
        Tensor(
            f'{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
            'RH',
            (f'{side}/relative_positions/table',),
        ),
        Tensor(f'{side}.final_layer_norm.weight', 'D', (f'{side}/final_norm/scale',)),
        *_attention(f'{block}0.SelfAttention', f'{ours}attention'),
        _weight(f'{block}0.layer_norm', 'D', f'{ours}attention_norm/scale'),
        *_feed_forward(f'{block}{last}.DenseReluDense', f'{ours}feed_forward', options.gated),
        _weight(f'{block}{last}.layer_norm', 'D', f'{ours}feed_forward_norm/scale'),
    ]
    if side == 'decoder':
        tensors += [
            *_attention(f'{block}1.EncDecAttention', f'{ours}cross_attention'),
            _weight(f'{block}1.layer_norm', 'D', f'{ours}cross_attention_norm/scale'),
        ]
    return tensors


def _attention(name: str, path: str) -> list[Tensor]:
    return [
        _weight(f'{name}.q', '(HK)D', f'{path}/query'),
        _weight(f'{name}.k', '(GK)D', f'{path}/key'),
        _weight(f'{name}.v', '(GK)D', f'{path}/value'),
        _weight(f'{name}.o', 'D(HK)', f'{path}/output'),
    ]


def _feed_forward(name: str, path: str, gated: bool) -> list[Tensor]:
    into = {'wi_0': 'gate', 'wi_1': 'up'} if gated else {'wi': 'up'}
    tensors = [_weight(f'{name}.{theirs}', 'FD', f'{path}/{own}') for theirs, own in into.items()]
    return [*tensors, _weight(f'{name}.wo', 'DF', f'{path}/down')]


def _weight(name: str, axes: str, path: str) -> Tensor:
    return Tensor(f'{name}.weight', axes, (path,))
