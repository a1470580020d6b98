"""BART: `BartForConditionalGeneration`. Its bias on the logits must be zero: nothing trains it."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_head_width, require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.bart import Options

MODEL_TYPES = ('bart',)


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`; both sides are alike."""
    del names
    foreign.only('activation_function', 'gelu')
    foreign.only('scale_embedding', False)
    foreign.only('tie_word_embeddings', True)
    foreign.only('is_encoder_decoder', True)
    # Of the released files, which name what their first code could do besides.
    foreign.only('normalize_before', False)
    foreign.only('normalize_embedding', True)
    foreign.only('add_final_layer_norm', False)
    foreign.only('add_bias_logits', False)
    foreign.only('static_position_embeddings', False)
    foreign.only('extra_pos_embeddings', 2)
    foreign.ignore(
        'activation_dropout', 'attention_dropout', 'encoder_layerdrop', 'decoder_layerdrop',
        'classif_dropout', 'init_std', 'force_bos_token_to_be_generated',
    )  # fmt: skip
    layers, heads = foreign.size('encoder_layers'), foreign.size('encoder_attention_heads')
    width = foreign.size('encoder_ffn_dim')
    foreign.only('decoder_layers', layers)
    foreign.only('num_hidden_layers', layers)
    foreign.only('decoder_attention_heads', heads)
    foreign.only('decoder_ffn_dim', width)
    return ModelConfig(
        name='bart',
        num_layers=layers,
        d_model=foreign.size('d_model'),
        num_heads=heads,
        d_ff=width,
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('max_position_embeddings', 1024),
        dropout=foreign.fraction('dropout', 0.1),
        options=Options(decoder_start=foreign.take('decoder_start_token_id', int, 2)),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model."""
    options: Options = config.options
    require_option(config, 'positions', 'learned')
    require_option(config, 'norm_eps', 1e-5)
    require_one_group(config)
    require_head_width(config)
    width = config.d_ff or 4 * config.d_model
    start = options.decoder_start
    return {
        **({} if start is None else {'decoder_start_token_id': start}),
        'architectures': ['BartForConditionalGeneration'],
        'model_type': 'bart',
        'd_model': config.d_model,
        'encoder_layers': config.num_layers,
        'decoder_layers': config.num_layers,
        'encoder_attention_heads': config.num_heads,
        'decoder_attention_heads': config.num_heads,
        'encoder_ffn_dim': width,
        'decoder_ffn_dim': width,
        'activation_function': 'gelu',
        'is_encoder_decoder': True,
        'dropout': config.dropout,
        'attention_dropout': 0.0,
        'activation_dropout': 0.0,
        'max_position_embeddings': config.max_positions,
        'init_std': options.init_std,
        'scale_embedding': False,
        'tie_word_embeddings': True,
        'vocab_size': config.tokens,
    }


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    del config
    embedding = 'model.shared.weight'
    copies = ('lm_head', 'model.encoder.embed_tokens', 'model.decoder.embed_tokens')
    return Table(
        tensors=(
            Tensor(embedding, 'VD', ('embedding/tokens',)),
            *_side('encoder'),
            *_side('decoder'),
        ),
        prefix='model.',
        copies={f'{name}.weight': embedding for name in copies},
        zeros=(Tensor('final_logits_bias', '1V', ()),),
    )


def _side(side: str) -> list[Tensor]:
    layer, ours = f'model.{side}.layers.{{}}.', f'{side}/layers/'
    tensors = [
        Tensor(f'model.{side}.embed_positions.weight', 'PD', (f'{side}/learned_positions/table',)),
        *_norm(f'model.{side}.layernorm_embedding', f'{side}/embedding_norm'),
        *_attention(f'{layer}self_attn', f'{ours}attention'),
        *_linear(f'{layer}fc1', 'F', 'D', f'{ours}feed_forward/up'),
        *_linear(f'{layer}fc2', 'D', 'F', f'{ours}feed_forward/down'),
        *_norm(f'{layer}final_layer_norm', f'{ours}feed_forward_norm'),
    ]
    if side == 'decoder':
        tensors += _attention(f'{layer}encoder_attn', f'{ours}cross_attention')
    return tensors


def _attention(name: str, path: str) -> list[Tensor]:
    """An attention's matrices and the norm behind it."""
    return [
        *_linear(f'{name}.q_proj', '(HK)', 'D', f'{path}/query'),
        *_linear(f'{name}.k_proj', '(GK)', 'D', f'{path}/key'),
        *_linear(f'{name}.v_proj', '(GK)', 'D', f'{path}/value'),
        *_linear(f'{name}.out_proj', 'D', '(HK)', f'{path}/output'),
        *_norm(f'{name}_layer_norm', f'{path}_norm'),
    ]


def _linear(name: str, out: str, into: str, path: str) -> list[Tensor]:
    return [
        Tensor(f'{name}.weight', out + into, (path,)),
        Tensor(f'{name}.bias', out, (f'{path}_bias',)),
    ]


def _norm(name: str, path: str) -> list[Tensor]:
    return [
        Tensor(f'{name}.weight', 'D', (f'{path}/scale',)),
        Tensor(f'{name}.bias', 'D', (f'{path}/bias',)),
    ]
