"""BERT: `BertForMaskedLM`, and `BertModel` as an encoder without a head.

What is left out of a checkpoint, and told: the pooler and the next-sentence head, which our BERT
does not have. The table of token types is kept; every token is of type 0.
"""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig
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
from lm.models.architectures.bert import Options

MODEL_TYPES = ('bert',)


def read_config(foreign: ForeignConfig, names: Collection[str]) -> ModelConfig:
    """The model of a `config.json`; it has a head where the files have one."""
    foreign.only('hidden_act', 'gelu')
    foreign.only('position_embedding_type', 'absolute')
    foreign.only('type_vocab_size', 2)
    foreign.only('tie_word_embeddings', True)
    foreign.only('is_encoder_decoder', False)
    # Of the pooler, which is left out, and of the text's direction.
    foreign.ignore(
        'attention_probs_dropout_prob', 'directionality', 'pooler_fc_size',
        'pooler_num_attention_heads', 'pooler_num_fc_layers', 'pooler_size_per_head', 'pooler_type',
    )  # fmt: skip
    return ModelConfig(
        name='bert',
        num_layers=foreign.size('num_hidden_layers'),
        d_model=foreign.size('hidden_size'),
        num_heads=foreign.size('num_attention_heads'),
        d_ff=foreign.size('intermediate_size'),
        vocab_size=foreign.size('vocab_size'),
        max_positions=foreign.size('max_position_embeddings', 512),
        dropout=foreign.fraction('hidden_dropout_prob', 0.1),
        **read_labels(foreign, names),
        options=Options(
            norm_eps=foreign.number('layer_norm_eps', 1e-12),
            head=any(name.startswith('cls.predictions.') for name in names),
        ),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model."""
    options: Options = config.options
    require_option(config, 'positions', 'learned')
    require_one_group(config)
    require_head_width(config)
    return {
        'architectures': [_class(config)],
        **written_labels(config),
        'model_type': 'bert',
        'hidden_size': config.d_model,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'intermediate_size': config.d_ff or 4 * config.d_model,
        'hidden_act': 'gelu',
        'hidden_dropout_prob': config.dropout,
        'attention_probs_dropout_prob': 0.0,
        'max_position_embeddings': config.max_positions,
        'type_vocab_size': 2,
        'initializer_range': options.init_std,
        'layer_norm_eps': options.norm_eps,
        'tie_word_embeddings': True,
        'vocab_size': config.tokens,
    }


def _class(config: ModelConfig) -> str:
    options: Options = config.options
    if config.head in CLASSES:
        return f'Bert{CLASSES[config.head]}'
    return 'BertForMaskedLM' if options.head else 'BertModel'


def table(config: ModelConfig) -> Table:
    """Its tensors."""
    options: Options = config.options
    outside = [
        Tensor('bert.embeddings.word_embeddings.weight', 'VD', ('embedding/tokens',)),
        Tensor(
            'bert.embeddings.position_embeddings.weight',
            'PD',
            ('encoder/learned_positions/table',),
        ),
        Tensor('bert.embeddings.token_type_embeddings.weight', 'YD', ('encoder/token_types',)),
        *norm('bert.embeddings.LayerNorm', 'encoder/embedding_norm'),
    ]
    head = [
        Tensor('cls.predictions.bias', 'V', ('head/bias',)),
        Tensor(
            'cls.predictions.transform.dense.weight', 'ED', ('head/transform/weight',), dims='DE'
        ),
        Tensor('cls.predictions.transform.dense.bias', 'D', ('head/transform/bias',)),
        *norm('cls.predictions.transform.LayerNorm', 'head/transform/norm'),
    ]
    if config.predicts_labels:
        head = label_tensors(config, 'bert.pooler.dense', 'classifier')
    elif not options.head:
        head = []
    return Table(
        tensors=(*outside, *layers('bert.'), *head),
        prefix='bert.',
        renamed=(
            (r'LayerNorm\.gamma$', 'LayerNorm.weight'),
            (r'LayerNorm\.beta$', 'LayerNorm.bias'),
        ),
        copies={
            'cls.predictions.decoder.weight': 'bert.embeddings.word_embeddings.weight',
            'cls.predictions.decoder.bias': 'cls.predictions.bias',
        },
        buffers=r'bert\.embeddings\.(position_ids|token_type_ids)',
        left_out={
            r'bert\.pooler\..*': 'the pooler, which only next-sentence prediction trains',
            r'cls\.seq_relationship\..*': 'the next-sentence head',
        },
    )
