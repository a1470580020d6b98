"""A label for a text, or for a pair of them (Devlin et al. 2019, section 4.1; figure 4 a, b).

The row is bos text eos, or bos text eos second eos, with eos twice between as RoBERTa has it where
the tokenizer says so; its first state is read by `LabelHead`. Labels are texts; `labels` unset,
they are those of the training part, in sorted order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from lm.batch import Batch, Row
from lm.config import Config, require, setting
from lm.examples import Encoded, ExampleCodec, Record, Side, as_ids, as_text, text_of
from lm.objectives._labelled import (
    OfLabels,
    fields_of,
    joined,
    require_default_text_field,
    require_distinct,
    special_ids,
)
from lm.vocabulary import Vocabulary

FAMILIES = ('encoder',)
HEAD = 'sequence'


@dataclass(frozen=True)
class Options:
    """Which fields of a record it reads."""

    text: str = setting('text', 'the field that holds the text')
    second: str = setting('', 'the field that holds a second text, of a pair; empty: none')
    label: str = setting('label', 'the field that holds the label')
    labels: tuple[str, ...] = setting((), 'all labels, in the order of their logits; unset: found')
    truncate: bool = setting(False, 'cut texts that are longer than a row; False: refuse them')

    def __post_init__(self) -> None:
        require_distinct(self.labels)


@dataclass(frozen=True)
class Codec:
    """Records to (text, second text, label)."""

    options: Options
    fields: tuple[str, ...] = ('text', 'second', 'label')
    aligns: bool = False

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the arrays: not the labels, which are kept as texts."""
        options = self.options
        return {
            'task': 'sequence_classification',
            'fields': [options.text, options.second, options.label],
        }

    def texts(self, record: Record, place: str) -> list[str]:
        """The text, and the second one."""
        named = {'text': self.options.text, 'second': self.options.second}
        return [text_of(record, field, name, place) for name, field in named.items() if field]

    def encode(
        self, record: Record, place: str, texts: Sequence[Encoded]
    ) -> list[list[np.ndarray]]:
        """The three fields."""
        first, *rest = (text.ids for text in texts)
        label = text_of(record, self.options.label, 'label', place)
        second = rest[0] if rest else np.empty(0, np.int32)
        return [[first, second, as_ids(label)]]

    def labels(self, record: Record) -> Iterable[str]:
        """Its one label."""
        return (str(record[self.options.label]),)


@dataclass(frozen=True)
class SequenceClassification(OfLabels):
    """Rows of one example, and one target each: the number of its label."""

    options: Options
    target_len: int = 1
    FITTING_OPTION = 'truncate=True'

    def places(self, lengths_NF: Int[np.ndarray, 'N F']) -> list[Side]:
        """Both texts and the special ids."""
        first_N, second_N, _ = lengths_NF.T
        special_N = np.where(
            second_N > 0, special_ids(True, self.vocabulary), special_ids(False, self.vocabulary)
        )
        return [('train.seq_len', first_N + second_N + special_N, self.seq_len)]

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """The texts as BERT reads them, and the label's number."""
        del rng
        first, second, label = fields_of(row, 3)
        batch, _, _ = joined(first, second, self.vocabulary, self.seq_len)
        number = self.options.labels.index(as_text(label))
        return batch._replace(
            targets=np.array([number], np.int32), loss_weights=np.ones(1, np.float32)
        )

    def target_words(self, row: Batch) -> str:
        """Its label."""
        return self.options.labels[int(np.asarray(row.targets)[0])]


def codec(options: Options) -> ExampleCodec:
    """How records become examples."""
    return Codec(options)


def check(config: Config) -> None:
    """Refuses settings of plain text."""
    require_default_text_field(config)


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> SequenceClassification:
    """The objective for rows of `seq_len` tokens."""
    require(seq_len >= 4, f'train.seq_len={seq_len}: too short for a text; raise it')
    return SequenceClassification(options, vocabulary, seq_len)
