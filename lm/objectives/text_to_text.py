"""A text from a text: translation, summaries, answers (Raffel et al. 2020, section 2.4).

Templates make an input and a target of a record's fields. An encoder-decoder reads the input and
says the target, each with an eos behind it; `bos` puts one before both too, as BART is trained. A
decoder reads bos, input and target in one row, and what it says of the target and its eos counts.
"""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from lm.batch import Batch, Row
from lm.config import Config, require, setting
from lm.errors import UserError
from lm.examples import Encoded, ExampleCodec, Record, Side, as_ids, field_of
from lm.objectives._labelled import OfExamples, fields_of, require_default_text_field
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import one_sided, two_sided
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('encoder_decoder', 'decoder')


@dataclass(frozen=True)
class Options:
    """What is given and what is to be said."""

    input: str = setting('{input}', 'template of what is given, such as "summarize: {article}"')
    target: str = setting('{target}', 'template of what is to be said')
    target_len: int | None = setting(
        None,
        "places of the decoder's row, where an encoder has its own (unset: train.seq_len); of a "
        'decoder alone, tokens that it says when it is asked (unset: as many as the longest target '
        'of those it is asked for)',
    )
    bos: bool = setting(False, 'of two sides, both texts begin with bos, as BART has it')
    truncate: bool = setting(False, 'cut texts that are longer than a row; False: refuse them')

    def __post_init__(self) -> None:
        for name in ('input', 'target'):
            template = getattr(self, name)
            require(
                bool(_names(name, template)) and all(_names(name, template)),
                f'objective.options.{name}={template}: names no field; put one in braces, such as '
                '{text}',
            )
        require(
            self.target_len is None or self.target_len > 1,
            f'objective.options.target_len={self.target_len}: must be at least 2',
        )


def _names(option: str, template: str) -> list[str]:
    """The fields that a template names."""
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f'objective.options.{option}={template}: {error}') from None


def filled(template: str, option: str, record: Record, place: str) -> str:
    """A template with a record's fields in it: `{name}`, or `{name[key]}` within a mapping.

    Raises:
      UserError: the record lacks one, or it is no text.
    """
    words = f'objective.options.{option}={template}: {place}'
    for name in _names(option, template):
        field_of(record, name.partition('[')[0].partition('.')[0], option, place)
        try:
            value, _ = string.Formatter().get_field(name, (), record)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise UserError(f'{words}: {name}: {error!r}') from None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f'{words} holds {type(value).__name__} in {name}, not text')
    try:
        return template.format_map(record)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f'{words}: {error!r}') from None


@dataclass(frozen=True)
class Codec:
    """Records to (input, target, text): the text is the target's bytes, for measures."""

    options: Options
    fields: tuple[str, ...] = ('input', 'target', 'text')
    aligns: bool = False

    @property
    def settings(self) -> Mapping[str, Any]:
        """The templates."""
        return {'task': 'text_to_text', 'input': self.options.input, 'target': self.options.target}

    def texts(self, record: Record, place: str) -> list[str]:
        """Both templates filled in."""
        return [
            filled(getattr(self.options, option), option, record, place)
            for option in ('input', 'target')
        ]

    def encode(
        self, record: Record, place: str, texts: Sequence[Encoded]
    ) -> list[list[np.ndarray]]:
        """Both texts, and the target as it stands."""
        target = filled(self.options.target, 'target', record, place)
        return [[*(text.ids for text in texts), as_ids(target)]]

    def labels(self, record: Record) -> Iterable[str]:
        """There are none."""
        del record
        return ()


@dataclass(frozen=True)
class TextToText(OfExamples):
    """Rows of one example, whose targets are a text.

    Attributes:
      two_sided: an encoder reads what is given.
    """

    options: Options
    two_sided: bool
    FITTING_OPTION = 'truncate=True'

    @property
    def target_len(self) -> int:
        """Places of the row in which the target is said."""
        return (self.options.target_len or self.seq_len) if self.two_sided else self.seq_len

    def places(self, lengths_NF: Int[np.ndarray, 'N F']) -> list[Side]:
        """Both texts with their special ids; a decoder's last id is a target only."""
        given_N, said_N, _ = lengths_NF.T
        if not self.two_sided:
            return [('train.seq_len', given_N + said_N + 1, self.seq_len)]
        ends = 1 + self.options.bos
        said = 'train.seq_len' if self.options.target_len is None else _TARGET_LEN
        return [
            ('train.seq_len', given_N + ends, self.seq_len),
            (said, said_N + ends, self.target_len),
        ]

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """What is given and what is to be said, cut where they are too long."""
        del rng
        given, said, _ = fields_of(row, 3)
        special = self.vocabulary
        given = self.cut(given, len(said))
        if self.two_sided:
            pair = self._ended(given, self.seq_len), self._ended(said, self.target_len)
            return two_sided([pair], self.seq_len, self.target_len, special)
        said = np.append(said[: self.seq_len - 1 - len(given)], special.eos_id)
        start = np.append([special.bos_id], given).astype(np.int32)
        laid = one_sided([(start, said.astype(np.int32))], self.seq_len, special.pad_id)
        return laid._replace(prefix=None)

    def cut(self, given: Int[np.ndarray, ' n'], room: int) -> Int[np.ndarray, ' m']:
        """What a row has of an input, where so many tokens are to be said.

        An encoder's loses its end. Of a decoder's row, too short for both, the input loses its
        beginning, down to one token: its end is next to what is to be said.
        """
        if self.two_sided:
            return given[: self.seq_len - 1 - self.options.bos]
        return given[max(0, len(given) - max(self.seq_len - 1 - room, 1)) :]

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the target and its eos."""
        return weighted_cross_entropy(logits_BTV, batch)

    def _ended(self, text: np.ndarray, length: int) -> np.ndarray:
        bos = [self.vocabulary.bos_id] if self.options.bos else []
        kept = text[: length - 1 - len(bos)]
        return np.concatenate([bos, kept, [self.vocabulary.eos_id]]).astype(np.int32)


_TARGET_LEN = 'objective.options.target_len'


def codec(options: Options) -> ExampleCodec:
    """How records become examples."""
    return Codec(options)


def check(config: Config) -> None:
    """Refuses settings of plain text."""
    require_default_text_field(config)


def build(options: Options, vocabulary: Vocabulary, seq_len: int, family: str) -> TextToText:
    """The objective for rows of `seq_len` inputs."""
    require(seq_len >= 4, f'train.seq_len={seq_len}: too short for a text; raise it')
    return TextToText(options, vocabulary, seq_len, family == 'encoder_decoder')
