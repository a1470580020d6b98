"""LLaMA and what descends from it: Mistral, Qwen 2, Qwen 3; each one's `...ForCausalLM`."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig, require
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.llama import Options
from lm.models.spec import gated_width

MODEL_TYPES = ('llama', 'mistral', 'qwen2', 'qwen3')

_CLASSES = {
    'llama': 'LlamaForCausalLM',
    'mistral': 'MistralForCausalLM',
    'qwen2': 'Qwen2ForCausalLM',
    'qwen3': 'Qwen3ForCausalLM',
}
_LAYER = 'model.layers.{}.'
_OURS = 'decoder/layers/'
_FULL, _SLIDES = 'full_attention', 'sliding_attention'


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`. What a file leaves unsaid is what its `model_type` means."""
    del names
    kind = foreign.model_type
    foreign.only('hidden_act', 'silu', 'swish')
    foreign.only('attention_bias', False)
    foreign.only('mlp_bias', False)
    foreign.only('is_encoder_decoder', False)
    foreign.ignore('attention_dropout', 'head_dim')
    heads = foreign.size('num_attention_heads')
    # Mistral's is 8 where unsaid; null means as many as heads in all.
    unsaid = kind == 'mistral' and not foreign.mentions('num_key_value_heads')
    groups = foreign.size('num_key_value_heads', 8 if unsaid else heads)
    d_model = foreign.size('hidden_size')
    longest = foreign.size('max_position_embeddings', 2048)
    width = foreign.size('head_dim', 128 if kind == 'qwen3' else max(1, d_model // heads))
    return ModelConfig(
        name='llama',
        num_layers=foreign.size('num_hidden_layers'),
        d_model=d_model,
        num_heads=heads,
        num_kv_heads=groups,
        head_dim=width,
        d_ff=foreign.size('intermediate_size'),
        vocab_size=foreign.size('vocab_size'),
        max_positions=longest,
        options=Options(
            norm_eps=foreign.number('rms_norm_eps', 1e-6),
            **_rotation(foreign, longest),
            attention_window=_window(foreign, kind),
            qkv_bias=kind == 'qwen2',
            qk_norm=kind == 'qwen3',
            tie_embeddings=foreign.take('tie_word_embeddings', bool, False),
        ),
    )


def _rotation(foreign: ForeignConfig, longest: int) -> dict[str, Any]:
    """The options of the rotation: `rope_parameters`, or `rope_theta` and `rope_scaling` of old."""
    theta = foreign.number('rope_theta', 10_000.0)
    foreign.only('partial_rotary_factor', 1.0)
    key = 'rope_parameters' if foreign.has('rope_parameters') else 'rope_scaling'
    rope = foreign.section(key)
    rope.only('partial_rotary_factor', 1.0)
    kind = rope.take('rope_type', str, rope.take('type', str, 'default'))
    fields: dict[str, Any] = {'rope_theta': rope.number('rope_theta', theta)}
    if kind in ('linear', 'llama3'):
        fields.update(rope_scaling=kind, rope_factor=rope.number('factor'))
    elif kind != 'default':
        raise rope.refusal('rope_type', kind, 'only default, linear or llama3')
    if kind == 'llama3':
        original = rope.size('original_max_position_embeddings', longest)
        fields.update(
            rope_low_freq_factor=rope.number('low_freq_factor'),
            rope_high_freq_factor=rope.number('high_freq_factor'),
            rope_original_positions=original,
        )
    rope.close()
    return fields


def _window(foreign: ForeignConfig, kind: str) -> int | None:
    """How many places a query sees in every layer; None: all.

    Raises:
      UserError: some layers see a window and some do not.
    """
    if kind == 'llama':
        return None
    foreign.ignore('sliding_window', 'use_sliding_window', 'max_window_layers', 'layer_types')
    if kind == 'mistral':
        return _width(foreign)
    if not foreign.take('use_sliding_window', bool, False):
        return None
    layers = foreign.size('num_hidden_layers')
    if foreign.has('layer_types'):
        key, types = 'layer_types', foreign.take('layer_types', list)
    else:
        key, first = 'max_window_layers', foreign.take('max_window_layers', int, 28)
        types = [_SLIDES if i >= first else _FULL for i in range(layers)]
    if types == [_FULL] * layers:
        return None
    if types != [_SLIDES] * layers:
        given = foreign.take(key, object, 28)
        raise foreign.refusal(key, given, f'only one kind of attention for all {layers} layers')
    return _width(foreign)


def _width(foreign: ForeignConfig) -> int | None:
    """The window: said as null it means none, and unsaid 4096."""
    said = foreign.mentions('sliding_window')
    return (
        foreign.size('sliding_window', 4096) if foreign.has('sliding_window') or not said else None
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, as the first of its descendants that has all it has.

    Raises:
      UserError: none has.
    """
    options: Options = config.options
    require_option(config, 'positions', 'rope')
    require(
        not (options.qkv_bias and options.qk_norm),
        "model.options.qk_norm=True: no model in Hugging Face's format has it together with "
        'model.options.qkv_bias=True',
    )
    kind = 'mistral' if options.attention_window else 'llama'
    kind = 'qwen2' if options.qkv_bias else 'qwen3' if options.qk_norm else kind
    require(
        kind != 'llama' or config.d_model % config.num_heads == 0,
        f'model.num_heads={config.num_heads}: transformers wants one that divides '
        f'model.d_model={config.d_model} of a LLaMA',
    )
    written = {
        'architectures': [_CLASSES[kind]],
        'model_type': kind,
        'hidden_size': config.d_model,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'num_key_value_heads': config.kv_heads,
        'head_dim': config.head_width,
        'intermediate_size': config.d_ff or gated_width(config.d_model),
        'hidden_act': 'silu',
        'max_position_embeddings': config.max_positions,
        'rms_norm_eps': options.norm_eps,
        'attention_dropout': 0.0,
        'tie_word_embeddings': options.tie_embeddings,
        'vocab_size': config.tokens,
        **_written_rotation(options),
    }
    if kind == 'mistral':
        written['sliding_window'] = options.attention_window
    elif kind != 'llama':
        slides = options.attention_window is not None
        written.update(
            use_sliding_window=slides,
            sliding_window=options.attention_window,
            max_window_layers=0 if slides else config.num_layers,
        )
    else:
        written.update(attention_bias=False, mlp_bias=False)
    return written


def _written_rotation(options: Options) -> dict[str, Any]:
    """In the old keys, which every version of transformers reads."""
    if options.rope_scaling == 'none':
        return {'rope_theta': options.rope_theta}
    scaling: dict[str, Any] = {'rope_type': options.rope_scaling, 'factor': options.rope_factor}
    if options.rope_scaling == 'llama3':
        scaling.update(
            low_freq_factor=options.rope_low_freq_factor,
            high_freq_factor=options.rope_high_freq_factor,
            original_max_position_embeddings=options.rope_original_positions,
        )
    return {'rope_theta': options.rope_theta, 'rope_scaling': scaling}


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    options: Options = config.options
    tied = options.tie_embeddings
    head = [] if tied else [Tensor('lm_head.weight', 'VD', ('head/output',))]
    return Table(
        tensors=(
            Tensor('model.embed_tokens.weight', 'VD', ('embedding/tokens',)),
            *head,
            Tensor('model.norm.weight', 'D', ('decoder/final_norm/scale',)),
            _layer('input_layernorm', 'D', 'attention_norm/scale'),
            *_attention(options),
            _layer('post_attention_layernorm', 'D', 'feed_forward_norm/scale'),
            _layer('mlp.gate_proj', 'FD', 'feed_forward/gate'),
            _layer('mlp.up_proj', 'FD', 'feed_forward/up'),
            _layer('mlp.down_proj', 'DF', 'feed_forward/down'),
        ),
        prefix='model.',
        copies={'lm_head.weight': 'model.embed_tokens.weight'} if tied else {},
        buffers=r'model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq',
    )


def _attention(options: Options) -> list[Tensor]:
    tensors = [
        _layer('self_attn.q_proj', '(HK)D', 'attention/query'),
        _layer('self_attn.k_proj', '(GK)D', 'attention/key'),
        _layer('self_attn.v_proj', '(GK)D', 'attention/value'),
        _layer('self_attn.o_proj', 'D(HK)', 'attention/output'),
    ]
    if options.qkv_bias:
        tensors += [
            _layer('self_attn.q_proj', '(HK)', 'attention/query_bias', 'bias'),
            _layer('self_attn.k_proj', '(GK)', 'attention/key_bias', 'bias'),
            _layer('self_attn.v_proj', '(GK)', 'attention/value_bias', 'bias'),
        ]
    if options.qk_norm:
        tensors += [
            _layer('self_attn.q_norm', 'K', 'attention/query_norm/scale'),
            _layer('self_attn.k_norm', 'K', 'attention/key_norm/scale'),
        ]
    return tensors


def _layer(name: str, axes: str, path: str, kind: str = 'weight') -> Tensor:
    return Tensor(f'{_LAYER}{name}.{kind}', axes, (_OURS + path,))
