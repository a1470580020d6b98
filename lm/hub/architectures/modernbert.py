"""ModernBERT: `ModernBertForMaskedLM`, and `ModernBertModel` as an encoder without a head."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_head_width, require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.modernbert import Options

MODEL_TYPES = ('modernbert',)

_IDS = ('pad_token_id', 'bos_token_id', 'eos_token_id', 'cls_token_id', 'sep_token_id')
_FULL, _SLIDES = 'full_attention', 'sliding_attention'


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`; it has a head where the files have one."""
    foreign.only('hidden_activation', 'gelu')
    foreign.only('classifier_activation', 'gelu')
    foreign.only('position_embedding_type', 'absolute')
    foreign.only('norm_bias', False)
    foreign.only('attention_bias', False)
    foreign.only('mlp_bias', False)
    foreign.only('classifier_bias', False)
    foreign.only('decoder_bias', True)
    foreign.only('tie_word_embeddings', True)
    foreign.only('is_encoder_decoder', False)
    # Of training and its speed, of other heads, and a name that nothing reads.
    foreign.ignore(
        'attention_dropout', 'mlp_dropout', 'initializer_cutoff_factor', 'classifier_pooling',
        'deterministic_flash_attn', 'reference_compile', 'repad_logits_with_grad',
        'sparse_prediction', 'sparse_pred_ignore_index', 'layer_norm_eps',
    )  # fmt: skip
    layers = foreign.size('num_hidden_layers')
    return ModelConfig(
        name='modernbert',
        num_layers=layers,
        d_model=foreign.size('hidden_size', 768),
        num_heads=foreign.size('num_attention_heads'),
        d_ff=foreign.size('intermediate_size'),
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('max_position_embeddings', 8192),
        dropout=foreign.fraction('embedding_dropout', 0.0),
        options=Options(
            norm_eps=foreign.number('norm_eps', 1e-5),
            head=any(name.startswith('head.') for name in names),
            global_every=_global_every(foreign, layers),
            local_reach=foreign.size('local_attention', 128) // 2,
            **_rotation(foreign),
        ),
    )


def _global_every(foreign: ForeignConfig, layers: int) -> int:
    """Which layers see all places: `layer_types`, or of old every so many.

    Raises:
      UserError: it is not every so many, from the first.
    """
    every = foreign.size('global_attn_every_n_layers', 3)
    if not foreign.has('layer_types'):
        return every
    types = foreign.take('layer_types', list)
    for every in range(1, layers + 1):
        if types == [_SLIDES if i % every else _FULL for i in range(layers)]:
            return every
    only = f'only {_FULL} in every so many of {layers} layers, from the first, else {_SLIDES}'
    raise foreign.refusal('layer_types', types, only)


def _rotation(foreign: ForeignConfig) -> dict[str, Any]:
    """The two bases: `rope_parameters`, or keys of old."""
    of_old = {
        _FULL: foreign.number('global_rope_theta', 160_000.0),
        _SLIDES: foreign.number('local_rope_theta', 10_000.0),
    }
    foreign.only('rope_scaling', {})
    both = foreign.section('rope_parameters')
    theta = {}
    for kind, unsaid in of_old.items():
        rope = both.section(kind)
        rope.only('rope_type', 'default')
        rope.only('partial_rotary_factor', 1.0)
        theta[kind] = rope.number('rope_theta', unsaid)
        rope.close()
    both.close()
    return {'rope_theta': theta[_FULL], 'local_rope_theta': theta[_SLIDES]}


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, in the old keys, which every version of transformers reads."""
    options: Options = config.options
    require_option(config, 'positions', 'rope')
    require_one_group(config)
    require_head_width(config)
    return {
        'architectures': ['ModernBertForMaskedLM' if options.head else 'ModernBertModel'],
        'model_type': 'modernbert',
        'hidden_size': config.d_model,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'intermediate_size': config.d_ff or 3 * config.d_model // 2,
        'hidden_activation': 'gelu',
        'classifier_activation': 'gelu',
        'max_position_embeddings': config.max_positions,
        'global_attn_every_n_layers': options.global_every,
        'local_attention': 2 * options.local_reach,
        'global_rope_theta': options.rope_theta,
        'local_rope_theta': options.local_rope_theta,
        'norm_eps': options.norm_eps,
        'norm_bias': False,
        'attention_bias': False,
        'mlp_bias': False,
        'classifier_bias': False,
        'decoder_bias': True,
        'embedding_dropout': config.dropout,
        'attention_dropout': 0.0,
        'mlp_dropout': 0.0,
        'initializer_range': options.init_std,
        'initializer_cutoff_factor': 2.0,
        'tie_word_embeddings': True,
        'vocab_size': config.tokens,
        # Unsaid, they are those of the released vocabulary; the tokenizer's own come over these.
        **dict.fromkeys(_IDS),
    }


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    options: Options = config.options
    layer, ours = 'model.layers.{}.', 'encoder/layers/'
    heads = tuple(f'{ours}attention/{name}' for name in ('query', 'key', 'value'))
    embedding = 'model.embeddings.tok_embeddings.weight'
    tensors = [
        Tensor(embedding, 'VD', ('embedding/tokens',)),
        Tensor('model.embeddings.norm.weight', 'D', ('encoder/embedding_norm/scale',)),
        Tensor(f'{layer}attn.Wqkv.weight', '(NHK)D', heads, dims='DHK'),
        Tensor(f'{layer}attn.Wo.weight', 'D(HK)', (f'{ours}attention/output',)),
        Tensor(f'{layer}mlp_norm.weight', 'D', (f'{ours}feed_forward_norm/scale',)),
        Tensor(
            f'{layer}mlp.Wi.weight', '(NF)D', (f'{ours}feed_forward/gate', f'{ours}feed_forward/up')
        ),
        Tensor(f'{layer}mlp.Wo.weight', 'DF', (f'{ours}feed_forward/down',)),
        Tensor('model.final_norm.weight', 'D', ('encoder/final_norm/scale',)),
    ]
    if config.num_layers > 1:
        inner = ('encoder/inner_attention_norm/scale',)
        tensors.append(Tensor(f'{layer}attn_norm.weight', 'D', inner))
    if options.head:
        tensors += [
            Tensor('head.dense.weight', 'ED', ('head/transform/weight',), dims='DE'),
            Tensor('head.norm.weight', 'D', ('head/transform/norm/scale',)),
            Tensor('decoder.bias', 'V', ('head/bias',)),
        ]
    return Table(
        tensors=tuple(tensors),
        prefix='model.',
        copies={'decoder.weight': embedding} if options.head else {},
        buffers=r'model\.(layers\.\d+\.attn\.)?rotary_emb\..*inv_freq',
    )
