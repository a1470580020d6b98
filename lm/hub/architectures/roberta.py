"""RoBERTa: `RobertaForMaskedLM`, and `RobertaModel` as an encoder without a head.

What is left out of a checkpoint, and told: the pooler. Its table of positions is kept with the rows
that are never read, up to that of the padding id.
"""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig, require
from lm.hub.architectures._bert_layers import layers, norm
from lm.hub.architectures._label_heads import (
    CLASSES,
    label_tensors,
    read_labels,
    written_labels,
)
from lm.hub.foreign_config import ForeignConfig
from lm.hub.options import require_head_width, require_one_group, require_option
from lm.hub.table import Table, Tensor
from lm.models.architectures.roberta import Options

MODEL_TYPES = ('roberta',)


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`; it has a head where the files have one."""
    foreign.only('hidden_act', 'gelu')
    foreign.only('position_embedding_type', 'absolute')
    foreign.only('tie_word_embeddings', True)
    foreign.only('is_encoder_decoder', False)
    foreign.ignore('attention_probs_dropout_prob')
    rows = foreign.size('max_position_embeddings', 512)
    offset = foreign.take('pad_token_id', int, 1) + 1
    if not 0 < offset < rows:
        only = f'only an id from 0 to max_position_embeddings - 2, here {rows - 2}'
        raise foreign.refusal('pad_token_id', offset - 1, only)
    return ModelConfig(
        name='roberta',
        num_layers=foreign.size('num_hidden_layers'),
        d_model=foreign.size('hidden_size'),
        num_heads=foreign.size('num_attention_heads'),
        d_ff=foreign.size('intermediate_size'),
        vocab_size=foreign.size('vocab_size'),
        max_positions=rows - offset,
        dropout=foreign.fraction('hidden_dropout_prob', 0.1),
        **read_labels(foreign, names),
        options=Options(
            norm_eps=foreign.number('layer_norm_eps', 1e-12),
            head=any(name.startswith('lm_head.') for name in names),
            position_offset=offset,
            token_types=foreign.size('type_vocab_size', 2),
        ),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model.

    Raises:
      UserError: it has what the format cannot say.
    """
    options: Options = config.options
    require_option(config, 'positions', 'learned')
    require_one_group(config)
    require_head_width(config)
    require(
        options.position_offset > 0,
        "model.options.position_offset=0: roberta in Hugging Face's format has the padding id + 1",
    )
    return {
        'architectures': [_class(config)],
        **written_labels(config),
        'model_type': 'roberta',
        'hidden_size': config.d_model,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'intermediate_size': config.d_ff or 4 * config.d_model,
        'hidden_act': 'gelu',
        'hidden_dropout_prob': config.dropout,
        'attention_probs_dropout_prob': 0.0,
        'max_position_embeddings': config.max_positions + options.position_offset,
        'pad_token_id': options.position_offset - 1,
        'type_vocab_size': options.token_types or 1,
        'initializer_range': options.init_std,
        'layer_norm_eps': options.norm_eps,
        'tie_word_embeddings': True,
        'vocab_size': config.tokens,
    }


def _class(config: ModelConfig) -> str:
    options: Options = config.options
    if config.head in CLASSES:
        return f'Roberta{CLASSES[config.head]}'
    return 'RobertaForMaskedLM' if options.head else 'RobertaModel'


def table(config: ModelConfig) -> Table:
    """Its tensors; without token types, their table is one row of zeros."""
    options: Options = config.options
    embeddings = 'roberta.embeddings.'
    outside = [
        Tensor(f'{embeddings}word_embeddings.weight', 'VD', ('embedding/tokens',)),
        Tensor(
            f'{embeddings}position_embeddings.weight', 'PD', ('encoder/learned_positions/table',)
        ),
        *norm(f'{embeddings}LayerNorm', 'encoder/embedding_norm'),
    ]
    types = f'{embeddings}token_type_embeddings.weight'
    if options.token_types:
        outside.append(Tensor(types, 'YD', ('encoder/token_types',)))
    head = [
        Tensor('lm_head.bias', 'V', ('head/bias',)),
        Tensor('lm_head.dense.weight', 'ED', ('head/transform/weight',), dims='DE'),
        Tensor('lm_head.dense.bias', 'D', ('head/transform/bias',)),
        *norm('lm_head.layer_norm', 'head/transform/norm'),
    ]
    if config.predicts_labels:
        head = label_tensors(config, 'classifier.dense', 'classifier.out_proj')
    elif not options.head:
        head = []
    return Table(
        tensors=(*outside, *layers('roberta.'), *head),
        prefix='roberta.',
        copies={
            'lm_head.decoder.weight': f'{embeddings}word_embeddings.weight',
            'lm_head.decoder.bias': 'lm_head.bias',
        },
        buffers=r'roberta\.embeddings\.(position_ids|token_type_ids)',
        left_out={r'roberta\.pooler\..*': 'the pooler, which masked tokens do not train'},
        zeros=() if options.token_types else (Tensor(types, '1D', ()),),
    )
