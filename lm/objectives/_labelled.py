"""What objectives on labelled text share: an example's fields, and where they go in a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from lm import registry
from lm.batch import Batch, Row
from lm.config import Config, DataConfig, require
from lm.errors import UserError, did_you_mean
from lm.examples import ExampleCodec, Side
from lm.objectives._objective import Objective, Sums, weighted_cross_entropy
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

if TYPE_CHECKING:
    import jax


@runtime_checkable
class Labelled(Objective, Protocol):
    """An objective whose rows are examples of several fields, one in a row."""

    @property
    def truncates(self) -> bool:
        """Whether what does not fit in a row is cut off."""

    def places(self, lengths_NF: Int[np.ndarray, 'N F']) -> list[Side]:
        """What N examples take of each side of a row, and what there is."""


@runtime_checkable
class PredictsLabels(Labelled, Protocol):
    """One whose answer is read off the logits."""

    def target_words(self, row: Batch) -> str:
        """What is to be said of one row of a Batch, for people."""

    def predictions(self, logits_BTV: LogitsBTV, batch: Batch) -> 'jax.Array':
        """Device half: what the model says, [B, ...] numbers of one kind."""


@dataclass(frozen=True)
class OfExamples:
    """What objectives on examples have in common: a row is one example.

    Attributes:
      options: the objective's own.
      vocabulary: the special ids.
      seq_len: places of a row; of two sides, of what is given.
    """

    options: Any
    vocabulary: Vocabulary
    seq_len: int
    overlap: ClassVar[int] = 0
    boundaries: ClassVar[bool] = True
    factorises: ClassVar[bool] = False

    @property
    def row_len(self) -> int:
        """Places of a row, padding counted."""
        return self.seq_len

    @property
    def truncates(self) -> bool:
        """As the option says, where there is one."""
        return bool(getattr(self.options, 'truncate', False))

    def tokens_used(self, batch: Batch) -> int:
        """All that is not padding, on either side."""
        both = (batch.segment_ids, batch.decoder_segment_ids)
        return sum(int(np.count_nonzero(np.asarray(ids))) for ids in both if ids is not None)

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """Refuses: what is learned from examples is asked for no span of a text."""
        del text, start, stop
        raise ValueError('an objective on examples asks for no span of a text')


@dataclass(frozen=True)
class OfLabels(OfExamples):
    """What objectives have in common whose logits are of labels, of a row or of each place."""

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the labels."""
        return weighted_cross_entropy(logits_BTV, batch)

    def predictions(self, logits_BTV: LogitsBTV, batch: Batch) -> 'jax.Array':
        """The likeliest label, int32 [B, 1], or [B, T] at each place."""
        del batch
        return logits_BTV.argmax(-1)


def example_codec(config: Config) -> ExampleCodec | None:
    """How the run's objective reads records; None of one that learns from plain text."""
    member = registry.lookup('objectives', config.objective.name, 'objective.name')
    if not hasattr(member, 'codec'):
        return None
    codec: ExampleCodec = member.codec(config.objective.options)
    return codec


def fields_of(row: Row, count: int) -> list[np.ndarray]:
    """The fields of an example, which `ExampleRows` lays one after another; some may be empty."""
    return [row.tokens[row.segment_ids == number] for number in range(1, count + 1)]


def joined(
    first: np.ndarray, second: np.ndarray | None, vocabulary: Vocabulary, seq_len: int
) -> tuple[Batch, int, int]:
    """One text, or two, as BERT reads them: bos a eos, or bos a eos b eos (b of token type 1).

    RoBERTa has eos twice between them (`vocabulary.pair_separators`).

    What is too long is cut, of two texts the longer one token by token (Devlin et al. 2019's code,
    `_truncate_seq_pair`).

    Args:
      first, second: ids without special ones.
      vocabulary: bos and eos stand for [CLS] and [SEP].
      seq_len: places of the row.

    Returns:
      the row without targets, and how many tokens are left of either text.
    """
    second = np.empty(0, np.int32) if second is None else second
    room = seq_len - special_ids(len(second) > 0, vocabulary)
    kept, other = _shortened(len(first), len(second), room)
    parts: list[Any] = [[vocabulary.bos_id], first[:kept], [vocabulary.eos_id]]
    types = begin_of_second(kept, vocabulary)
    if len(second):
        between = [vocabulary.eos_id] * (vocabulary.pair_separators - 1)
        parts += [between, second[:other], [vocabulary.eos_id]]
    text = np.concatenate(parts).astype(np.int32)
    tokens = np.full(seq_len, vocabulary.pad_id, np.int32)
    tokens[: len(text)] = text
    there = np.arange(seq_len) < len(text)
    batch = Batch(
        tokens,
        there.astype(np.int32),
        np.where(there, np.arange(seq_len), 0).astype(np.int32),
        token_types=(there & (np.arange(seq_len) >= types)).astype(np.int32),
    )
    return batch, kept, other


def special_ids(pair: bool, vocabulary: Vocabulary) -> int:
    """Places of a row beside its texts: bos, eos, and of a pair what is between."""
    return 2 + vocabulary.pair_separators if pair else 2


def begin_of_second(first: int, vocabulary: Vocabulary) -> int:
    """The place where the second text begins, after a first one of so many tokens."""
    return 1 + first + vocabulary.pair_separators


def _shortened(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of two texts after tokens of the longer one were dropped until both fit."""
    over = max(first + second - room, 0)
    lead = first - second
    # The longer one loses its lead first; of what is left over both lose half, the first one less.
    from_first = min(over, max(lead, 0))
    from_second = min(over, max(-lead, 0))
    over -= from_first + from_second
    from_second += -(-over // 2)
    from_first += over // 2
    return first - from_first, second - from_second


def require_distinct(labels: Sequence[str]) -> None:
    """Refuses labels that name one twice."""
    require(
        len({*labels}) == len(labels),
        f'objective.options.labels={",".join(labels)}: names one twice',
    )


def require_known(label: str, labels: tuple[str, ...], place: str) -> None:
    """Refuses a label that is none of those named, where some are."""
    if labels and label not in labels:
        raise UserError(
            f'objective.options.labels={",".join(labels)}: {place} has the label {label!r}'
            f'{did_you_mean(label, [*labels])}; name it there, or leave them unset'
        )


def require_default_text_field(config: Config) -> None:
    """Refuses a setting that examples do not follow."""
    field = config.data.text_field
    require(
        field == DataConfig.text_field,
        f'data.text_field={field}: of plain text; objective.name={config.objective.name} reads the '
        'fields that objective.options name',
    )
    require(
        config.mesh.seq in (None, 1),
        f'mesh.seq={config.mesh.seq}: splits long rows of text; examples of '
        f'objective.name={config.objective.name} stay whole',
    )
