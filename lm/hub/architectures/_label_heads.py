"""Heads for labels, as transformers' `Bert...` and `Roberta...` classes have them."""

from collections.abc import Collection
from typing import Any

from lm.config import ModelConfig
from lm.hub.foreign_config import ForeignConfig
from lm.hub.table import Tensor

CLASSES = {
    'sequence': 'ForSequenceClassification',
    'token': 'ForTokenClassification',
    'span': 'ForQuestionAnswering',
}
"""Ends of the names of their classes."""


def read_labels(foreign: ForeignConfig, names: Collection[str]) -> dict[str, Any]:
    """`head` and `num_labels` of a config.json; nothing of a model without such a head.

    The class that wrote the file tells which one it is: their tensors have the same names.
    """
    classes = foreign.take('architectures', list, [])
    found = [head for head, end in CLASSES.items() if any(c.endswith(end) for c in classes)]
    if not found or not any(name.startswith(('classifier.', 'qa_outputs.')) for name in names):
        return {}
    if found[0] == 'span':
        return {'head': 'span'}
    labels = foreign.take('id2label', dict, {}) or {}
    return {'head': found[0], 'num_labels': len(labels) or foreign.size('num_labels', 2)}


def written_labels(config: ModelConfig) -> dict[str, Any]:
    """What config.json says of labels without names, which `write_model` puts in their place."""
    if not config.predicts_labels:
        return {}
    labels = {str(i): f'LABEL_{i}' for i in range(config.labels)}
    return {'id2label': labels, 'label2id': {name: int(i) for i, name in labels.items()}}


def label_tensors(config: ModelConfig, pooler: str, classifier: str) -> list[Tensor]:
    """The tensors of its head for labels.

    Args:
      config: of the model.
      pooler: the name of its dense layer, without `.weight`.
      classifier: the name of the last matrix, where the row has one label.
    """
    name = {'sequence': classifier, 'token': 'classifier', 'span': 'qa_outputs'}[config.head or '']
    last = [
        Tensor(f'{name}.weight', 'OD', ('head/weight',)),
        Tensor(f'{name}.bias', 'O', ('head/bias',)),
    ]
    if config.head != 'sequence':
        return last
    return [
        Tensor(f'{pooler}.weight', 'ED', ('head/pooler/weight',), dims='DE'),
        Tensor(f'{pooler}.bias', 'D', ('head/pooler/bias',)),
        *last,
    ]
