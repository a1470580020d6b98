"""GPT-2: `GPT2LMHeadModel`. Its matrices are stored as [in, out], query, key and value in one."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_head_width, require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.gpt2 import Options

MODEL_TYPES = ('gpt2',)

_LAYER = 'transformer.h.{}.'
_OURS = 'decoder/layers/'


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`."""
    del names
    foreign.only('activation_function', 'gelu_new', 'gelu_pytorch_tanh')
    foreign.only('scale_attn_weights', True)
    foreign.only('scale_attn_by_inverse_layer_idx', False)
    foreign.only('tie_word_embeddings', True)
    foreign.only('is_encoder_decoder', False)
    # `n_ctx` repeats `n_positions`; upcasting changes how attention is rounded; the rest is a
    # classification head's.
    foreign.ignore(
        'n_ctx', 'reorder_and_upcast_attn', 'attn_pdrop', 'embd_pdrop', 'summary_activation',
        'summary_first_dropout', 'summary_proj_to_labels', 'summary_type', 'summary_use_proj',
    )  # fmt: skip
    d_model = foreign.size('n_embd')
    return ModelConfig(
        name='gpt2',
        num_layers=foreign.size('n_layer'),
        d_model=d_model,
        num_heads=foreign.size('n_head'),
        d_ff=foreign.size('n_inner', 4 * d_model),
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('n_positions', 1024),
        dropout=foreign.fraction('resid_pdrop', 0.1),
        options=Options(norm_eps=foreign.number('layer_norm_epsilon', 1e-5)),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model."""
    options: Options = config.options
    require_option(config, 'positions', 'learned')
    require_one_group(config)
    require_head_width(config)
    return {
        'architectures': ['GPT2LMHeadModel'],
        'model_type': 'gpt2',
        'n_embd': config.d_model,
        'n_layer': config.num_layers,
        'n_head': config.num_heads,
        'n_inner': config.d_ff or 4 * config.d_model,
        'n_positions': config.max_positions,
        'activation_function': 'gelu_new',
        'resid_pdrop': config.dropout,
        'embd_pdrop': config.dropout,
        'attn_pdrop': 0.0,
        'layer_norm_epsilon': options.norm_eps,
        'tie_word_embeddings': True,
        'vocab_size': config.tokens,
    }


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    del config
    attention = f'{_OURS}attention/'
    return Table(
        tensors=(
            Tensor('transformer.wte.weight', 'VD', ('embedding/tokens',)),
            Tensor('transformer.wpe.weight', 'PD', ('decoder/learned_positions/table',)),
            *_norm('transformer.ln_f', 'decoder/final_norm'),
            *_norm(f'{_LAYER}ln_1', f'{_OURS}attention_norm'),
            *_norm(f'{_LAYER}ln_2', f'{_OURS}feed_forward_norm'),
            Tensor(
                f'{_LAYER}attn.c_attn.weight',
                'D(NHK)',
                (f'{attention}query', f'{attention}key', f'{attention}value'),
                dims='DHK',
            ),
            Tensor(
                f'{_LAYER}attn.c_attn.bias',
                '(NHK)',
                (f'{attention}query_bias', f'{attention}key_bias', f'{attention}value_bias'),
                dims='HK',
            ),
            *_map('attn.c_proj', '(HK)', 'D', f'{attention}output'),
            *_map('mlp.c_fc', 'D', 'F', f'{_OURS}feed_forward/up'),
            *_map('mlp.c_proj', 'F', 'D', f'{_OURS}feed_forward/down'),
        ),
        prefix='transformer.',
        copies={'lm_head.weight': 'transformer.wte.weight'},
        buffers=r'transformer\.h\.\d+\.attn\.(bias|masked_bias)',
    )


def _map(name: str, into: str, out: str, path: str) -> list[Tensor]:
    return [
        Tensor(f'{_LAYER}{name}.weight', into + out, (path,)),
        Tensor(f'{_LAYER}{name}.bias', out, (f'{path}_bias',)),
    ]


def _norm(name: str, path: str) -> list[Tensor]:
    return [
        Tensor(f'{name}.weight', 'D', (f'{path}/scale',)),
        Tensor(f'{name}.bias', 'D', (f'{path}/bias',)),
    ]
