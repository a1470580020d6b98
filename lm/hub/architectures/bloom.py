"""BLOOM: `BloomForCausalLM`. A head's query, key and value lie together in one matrix."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig, require
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_head_width, require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.bloom import Options

MODEL_TYPES = ('bloom',)

_LAYER = 'transformer.h.{}.'
_OURS = 'decoder/layers/'


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`; the sizes have two names each."""
    del names
    foreign.only('apply_residual_connection_post_layernorm', False)
    foreign.only('tie_word_embeddings', True)
    foreign.only('is_encoder_decoder', False)
    # How the sums of a row are rounded, and what the released files keep of their training code.
    foreign.ignore(
        'slow_but_exact', 'attention_dropout', 'attention_softmax_in_fp32', 'bias_dropout_fusion',
        'masked_softmax_fusion', 'offset_alibi', 'skip_bias_add', 'skip_bias_add_qkv',
    )  # fmt: skip
    d_model = _size(foreign, 'n_embed', 'hidden_size')
    foreign.only('n_inner', 4 * d_model)
    return ModelConfig(
        name='bloom',
        num_layers=_size(foreign, 'num_hidden_layers', 'n_layer'),
        d_model=d_model,
        num_heads=_size(foreign, 'num_attention_heads', 'n_head'),
        d_ff=4 * d_model,
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('seq_length', 2048),
        dropout=foreign.fraction('hidden_dropout', 0.0),
        options=Options(norm_eps=foreign.number('layer_norm_epsilon', 1e-5)),
    )


def _size(foreign: ForeignConfig, name: str, other: str) -> int:
    """The size of one of two names; of the first where both are there, as transformers has it."""
    foreign.ignore(other)
    return foreign.size(name if foreign.has(name) else other)


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model.

    Raises:
      UserError: it has what the format cannot say.
    """
    options: Options = config.options
    require_option(config, 'positions', 'alibi')
    require_one_group(config)
    require_head_width(config)
    require(
        config.d_ff in (None, 4 * config.d_model),
        f"model.d_ff={config.d_ff}: bloom in Hugging Face's format has 4 x model.d_model",
    )
    return {
        'architectures': ['BloomForCausalLM'],
        'model_type': 'bloom',
        'hidden_size': config.d_model,
        'n_layer': config.num_layers,
        'n_head': config.num_heads,
        'seq_length': config.max_positions,
        'hidden_dropout': config.dropout,
        'attention_dropout': 0.0,
        'layer_norm_epsilon': options.norm_eps,
        'apply_residual_connection_post_layernorm': False,
        'tie_word_embeddings': True,
        'vocab_size': config.tokens,
    }


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    del config
    heads = [f'{_OURS}attention/{part}' for part in ('query', 'key', 'value')]
    fused = f'{_LAYER}self_attention.query_key_value'
    return Table(
        tensors=(
            Tensor('transformer.word_embeddings.weight', 'VD', ('embedding/tokens',)),
            *_norm('transformer.word_embeddings_layernorm', 'decoder/embedding_norm'),
            *_norm('transformer.ln_f', 'decoder/final_norm'),
            *_norm(f'{_LAYER}input_layernorm', f'{_OURS}attention_norm'),
            *_norm(f'{_LAYER}post_attention_layernorm', f'{_OURS}feed_forward_norm'),
            Tensor(f'{fused}.weight', '(HNK)D', tuple(heads), dims='DHK'),
            Tensor(f'{fused}.bias', '(HNK)', tuple(f'{path}_bias' for path in heads), dims='HK'),
            *_linear('self_attention.dense', 'D', '(HK)', 'attention/output'),
            *_linear('mlp.dense_h_to_4h', 'F', 'D', 'feed_forward/up'),
            *_linear('mlp.dense_4h_to_h', 'D', 'F', 'feed_forward/down'),
        ),
        prefix='transformer.',
        copies={'lm_head.weight': 'transformer.word_embeddings.weight'},
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
