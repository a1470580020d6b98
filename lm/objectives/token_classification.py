"""A label for each word of a sentence: named entities and the like (Devlin et al. 2019, 5.3).

A record is a list of words and one of tags in BIO (Ramshaw & Marcus 1995): `B-TYPE` begins an
entity, `I-TYPE` goes on with one or, after anything else, begins one too, `O` is none. The row is
bos, the words joined by blanks, eos. The first token of a word says its label, the others count
nothing. A word that no token stands for, such as one of control characters, has no place in the
row: nothing is learned of it, and it counts as `O` where predictions are measured.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from lm.batch import Batch, Row
from lm.config import Config, require, setting
from lm.errors import UserError
from lm.examples import Encoded, ExampleCodec, Record, Side, as_ids, as_text, field_of
from lm.objectives._labelled import (
    OfLabels,
    fields_of,
    joined,
    require_default_text_field,
    require_distinct,
)
from lm.vocabulary import Vocabulary

if TYPE_CHECKING:
    pass

FAMILIES = ('encoder',)
HEAD = 'token'
_TAG = re.compile(r'O|[BI]-\S+')


@dataclass(frozen=True)
class Options:
    """Which fields of a record it reads."""

    tokens: str = setting('tokens', 'the field that holds the words, a list')
    tags: str = setting('tags', 'the field that holds the tag of each word, such as B-person')
    labels: tuple[str, ...] = setting((), 'all tags, in the order of their logits; unset: found')

    def __post_init__(self) -> None:
        require_distinct(self.labels)


@dataclass(frozen=True)
class Codec:
    """Records to (ids, the place of each word's first id or -1, tags)."""

    options: Options
    fields: tuple[str, ...] = ('ids', 'firsts', 'tags')
    aligns: bool = True

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the arrays: not the labels, which are kept as texts."""
        return {
            'task': 'token_classification',
            'fields': [self.options.tokens, self.options.tags],
        }

    def texts(self, record: Record, place: str) -> list[str]:
        """The sentence."""
        return [' '.join(self._listed(record, 'tokens', place))]

    def encode(
        self, record: Record, place: str, texts: Sequence[Encoded]
    ) -> list[list[np.ndarray]]:
        """The three fields."""
        words = self._listed(record, 'tokens', place)
        tags = self._listed(record, 'tags', place)
        field = f'objective.options.tags={self.options.tags}'
        if len(tags) != len(words):
            raise UserError(
                f'{field}: {place} has {len(tags)} tags for {len(words)} words; give each word one'
            )
        for tag in tags:
            if not _TAG.fullmatch(tag):
                raise UserError(
                    f'{field}: {place} has the tag {tag!r}; tags are O, B-TYPE or I-TYPE'
                )
        [sentence] = texts
        assert sentence.spans_n2 is not None
        return [[sentence.ids, first_ids(words, sentence.spans_n2), as_ids(' '.join(tags))]]

    def labels(self, record: Record) -> Iterable[str]:
        """The tag of each word."""
        tags: list[str] = record[self.options.tags]
        return tags

    def _listed(self, record: Record, option: str, place: str) -> list[str]:
        """A list of texts; a label's number in its place is refused."""
        field: str = getattr(self.options, option)
        value = field_of(record, field, option, place)
        listed = value if isinstance(value, list) else [value]
        strangers = [each for each in listed if not isinstance(each, str)]
        if strangers or listed is not value:
            found = type(strangers[0] if strangers else value).__name__
            raise UserError(
                f'objective.options.{option}={field}: {place} holds {found} there, where a list of '
                'texts should be'
            )
        if not listed:
            raise UserError(
                f'objective.options.{option}={field}: {place} holds an empty list; leave it out'
            )
        return listed


def first_ids(words: Sequence[str], spans_n2: Int[np.ndarray, 'n 2']) -> Int[np.ndarray, ' words']:
    """The place of the first id that stands for a character of each word, int32.

    It is -1 of a word that none stands for, or none that was not the first of the word before.

    Args:
      words: in their order; the text is these with a blank between each two.
      spans_n2: the characters of each id.
    """
    ends_W = np.cumsum([len(word) + 1 for word in words]) - 1
    begins_W = ends_W - [len(word) for word in words]
    firsts_W = np.full(len(words), -1, np.int32)
    wide = np.flatnonzero(spans_n2[:, 0] < spans_n2[:, 1])
    begins_n, stops_n = spans_n2[wide].T
    place_W = np.searchsorted(stops_n, begins_W, side='right')
    read = np.flatnonzero(place_W < len(wide))
    read = read[begins_n[place_W[read]] < ends_W[read]]
    places, first = np.unique(place_W[read], return_index=True)
    firsts_W[read[first]] = wide[places]
    return firsts_W


@dataclass(frozen=True)
class TokenClassification(OfLabels):
    """Rows of one sentence, and a target where a word begins: the number of its label."""

    options: Options

    @property
    def target_len(self) -> int:
        """Each place may have a label."""
        return self.seq_len

    def places(self, lengths_NF: Int[np.ndarray, 'N F']) -> list[Side]:
        """The sentence and two special ids."""
        return [('train.seq_len', lengths_NF[:, 0] + 2, self.seq_len)]

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """The sentence as BERT reads it, and the labels' numbers."""
        del rng
        ids, firsts, tags = fields_of(row, 3)
        batch, _, _ = joined(ids, None, self.vocabulary, self.seq_len)
        numbers = np.array([self.options.labels.index(tag) for tag in as_text(tags).split(' ')])
        there = firsts >= 0
        targets = np.zeros(self.seq_len, np.int32)
        weights = np.zeros(self.seq_len, np.float32)
        targets[firsts[there] + 1] = numbers[there]
        weights[firsts[there] + 1] = 1
        return batch._replace(targets=targets, loss_weights=weights)

    def target_words(self, row: Batch) -> str:
        """The tags of its words, in their order."""
        numbers = np.asarray(row.targets)[np.asarray(row.loss_weights) > 0]
        return ' '.join(self.options.labels[number] for number in numbers.tolist())


def codec(options: Options) -> ExampleCodec:
    """How records become examples."""
    return Codec(options)


def check(config: Config) -> None:
    """Refuses settings of plain text."""
    require_default_text_field(config)


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> TokenClassification:
    """The objective for rows of `seq_len` tokens."""
    require(seq_len >= 4, f'train.seq_len={seq_len}: too short for a sentence; raise it')
    return TokenClassification(options, vocabulary, seq_len)
