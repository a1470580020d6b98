"""GPT-NeoX and Pythia: `GPTNeoXForCausalLM`. A head's query, key and value lie together."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig, require
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_head_width, require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.gpt_neox import Options, spec

MODEL_TYPES = ('gpt_neox',)

_TANH = ('gelu_new', 'gelu_fast', 'gelu_pytorch_tanh')
"""Names of one approximation."""
_LAYER = 'gpt_neox.layers.{}.'
_OURS = 'decoder/layers/'


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`."""
    del names
    foreign.only('hidden_act', 'gelu', *_TANH)
    foreign.only('attention_bias', True)
    foreign.only('is_encoder_decoder', False)
    foreign.ignore('attention_dropout')
    d_model, heads = foreign.size('hidden_size'), foreign.size('num_attention_heads')
    return ModelConfig(
        name='gpt_neox',
        num_layers=foreign.size('num_hidden_layers'),
        d_model=d_model,
        num_heads=heads,
        d_ff=foreign.size('intermediate_size'),
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('max_position_embeddings', 2048),
        dropout=foreign.fraction('hidden_dropout', 0.0),
        options=Options(
            norm_eps=foreign.number('layer_norm_eps', 1e-5),
            activation='gelu_tanh' if foreign.take('hidden_act', str, 'gelu') in _TANH else 'gelu',
            parallel=foreign.take('use_parallel_residual', bool, True),
            **_rotation(foreign, d_model // heads),
            tie_embeddings=foreign.take('tie_word_embeddings', bool, False),
        ),
    )


def _rotation(foreign: ForeignConfig, head_width: int) -> dict[str, Any]:
    """The options of the rotation: `rope_parameters`, or `rotary_pct` and `rotary_emb_base`."""
    share, theta = foreign.number('rotary_pct', 0.25), foreign.number('rotary_emb_base', 10_000.0)
    theta = foreign.number('rope_theta', theta)
    rope = foreign.section('rope_parameters' if foreign.has('rope_parameters') else 'rope_scaling')
    rope.only('rope_type', 'default')
    rope.only('type', 'default')
    share = rope.number('partial_rotary_factor', share)
    theta = rope.number('rope_theta', theta)
    rope.close()
    turned = int(head_width * share)
    if share > 1 or turned % 2 or not turned:
        only = f'only a share that turns pairs of the {head_width} entries of a head'
        raise foreign.refusal('rotary_pct', share, only)
    return {'rope_theta': theta, 'rope_share': share}


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, in the keys that every version of transformers reads.

    Raises:
      UserError: it has what the format cannot say.
    """
    options: Options = config.options
    require_option(config, 'positions', 'rope')
    require_one_group(config)
    require_head_width(config)
    turned = spec(config).rotary_width
    require(
        int(config.head_width * options.rope_share) == turned,
        f'model.options.rope_share={options.rope_share}: turns {turned} of {config.head_width} '
        'entries of a head, for which transformers counts otherwise',
    )
    return {
        'architectures': ['GPTNeoXForCausalLM'],
        'model_type': 'gpt_neox',
        'hidden_size': config.d_model,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'intermediate_size': config.d_ff or 4 * config.d_model,
        'hidden_act': 'gelu' if options.activation == 'gelu' else 'gelu_new',
        'hidden_dropout': config.dropout,
        'attention_dropout': 0.0,
        'attention_bias': True,
        'max_position_embeddings': config.max_positions,
        'rotary_pct': options.rope_share,
        'rotary_emb_base': options.rope_theta,
        'layer_norm_eps': options.norm_eps,
        'use_parallel_residual': options.parallel,
        'tie_word_embeddings': options.tie_embeddings,
        'vocab_size': config.tokens,
    }


def table(config: ModelConfig) -> Table:
    """Its tensors, the output matrix by the name that all files bear."""
    options: Options = config.options
    heads = [f'{_OURS}attention/{part}' for part in ('query', 'key', 'value')]
    fused = f'{_LAYER}attention.query_key_value'
    tied = options.tie_embeddings
    return Table(
        tensors=(
            Tensor('gpt_neox.embed_in.weight', 'VD', ('embedding/tokens',)),
            *([] if tied else [Tensor('embed_out.weight', 'VD', ('head/output',))]),
            *_norm('gpt_neox.final_layer_norm', 'decoder/final_norm'),
            *_norm(f'{_LAYER}input_layernorm', f'{_OURS}attention_norm'),
            *_norm(f'{_LAYER}post_attention_layernorm', f'{_OURS}feed_forward_norm'),
            Tensor(f'{fused}.weight', '(HNK)D', tuple(heads), dims='DHK'),
            Tensor(f'{fused}.bias', '(HNK)', tuple(f'{path}_bias' for path in heads), dims='HK'),
            *_linear('attention.dense', 'D', '(HK)', 'attention/output'),
            *_linear('mlp.dense_h_to_4h', 'F', 'D', 'feed_forward/up'),
            *_linear('mlp.dense_4h_to_h', 'D', 'F', 'feed_forward/down'),
        ),
        prefix='gpt_neox.',
        renamed=((r'^lm_head\.', 'embed_out.'),),
        copies={'embed_out.weight': 'gpt_neox.embed_in.weight'} if tied else {},
        buffers=r'gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)',
    )


def _linear(name: str, out: str, into: str, path: str) -> list[Tensor]:
    return [
        Tensor(f'{_LAYER}{name}.weight', out + into, (_OURS + path,)),
        Tensor(f'{_LAYER}{name}.bias', out, (f'{_OURS}{path}_bias',)),
    ]


def _norm(name: str, path: str) -> list[Tensor]:
    return [
        Tensor(f'{name}.weight', 'D', (f'{path}/scale',)),
        Tensor(f'{name}.bias', 'D', (f'{path}/bias',)),
    ]
