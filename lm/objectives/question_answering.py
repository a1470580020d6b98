"""The span of a text that answers a question (Rajpurkar et al. 2016; Devlin et al. 2019, 4.2, 4.3).

The row is bos question eos context eos, and what is to be said are the first and the last place of
the answer. Only places of the context can be either, and bos: it stands for no answer, as of the
unanswerable questions of SQuAD 2.0. A context longer than `window` becomes several rows, `stride`
tokens apart; one that does not hold the answer whole has none. Of several answers the first is
learned. Answers are character offsets into their context, checked against its text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from lm.batch import Batch, Row
from lm.config import Config, require, setting
from lm.errors import UserError
from lm.examples import Encoded, ExampleCodec, Record, Side, as_ids, field_of, text_of
from lm.objectives._answers import NOWHERE, cut_windows, ids_of, listed_answers
from lm.objectives._labelled import (
    OfExamples,
    begin_of_second,
    fields_of,
    joined,
    require_default_text_field,
    special_ids,
)
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

if TYPE_CHECKING:
    import jax

FAMILIES = ('encoder',)
HEAD = 'span'


@dataclass(frozen=True)
class Options:
    """Which fields of a record it reads, and how long contexts are cut."""

    question: str = setting('question', 'the field that holds the question')
    context: str = setting('context', 'the field that holds the text with the answer in it')
    answers: str = setting('answers', "the field that holds the answers, as SQuAD's have them")
    unanswerable: bool = setting(
        False, 'some questions have no answer, as in SQuAD 2.0; False: refuse them'
    )
    window: int | None = setting(
        None, 'context tokens of a row; a longer context makes several; unset: all, in one'
    )
    stride: int = setting(128, "tokens from one window's beginning to the next one's")
    max_answer_tokens: int = setting(30, 'longest answer that is predicted')

    def __post_init__(self) -> None:
        here = 'objective.options'
        require(
            self.window is None or self.window > 0,
            f'{here}.window={self.window}: must be positive',
        )
        require(
            0 < self.stride <= (self.window or self.stride),
            f'{here}.stride={self.stride}: must be from 1 to {here}.window={self.window}, or what '
            'lies between windows is in none',
        )
        require(
            self.max_answer_tokens > 0,
            f'{here}.max_answer_tokens={self.max_answer_tokens}: must be positive',
        )


@dataclass(frozen=True)
class Codec:
    """Records to (question, context, answer, window, spans, text, answers), a window each.

    `answer` holds the first and last id of the answer in the window, or nothing; `window` its
    number and how many there are; `text` the bytes of its characters; `spans` those of each id,
    from which and before which; `answers` the bytes of all that are right, as JSON.
    """

    options: Options
    fields: tuple[str, ...] = (
        'question', 'context', 'answer', 'window', 'spans', 'text', 'answers',
    )  # fmt: skip
    aligns: bool = True

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the arrays."""
        options = self.options
        return {
            'task': 'question_answering',
            'fields': [options.question, options.context, options.answers],
            'unanswerable': options.unanswerable,
            'windows': None if options.window is None else [options.window, options.stride],
        }

    @property
    def _field(self) -> str:
        return f'objective.options.answers={self.options.answers}'

    def texts(self, record: Record, place: str) -> list[str]:
        """The question and its context."""
        options = self.options
        return [
            text_of(record, options.question, 'question', place),
            text_of(record, options.context, 'context', place),
        ]

    def encode(
        self, record: Record, place: str, texts: Sequence[Encoded]
    ) -> list[list[np.ndarray]]:
        """The fields of each window of the context."""
        place = f'{place} ({record["id"]})' if 'id' in record else place
        context = text_of(record, self.options.context, 'context', place)
        question, encoded = texts
        spans_n2 = encoded.spans_n2
        assert spans_n2 is not None
        if not len(encoded.ids):
            raise UserError(
                f'objective.options.context={self.options.context}: {place} holds no token there'
            )
        answers = listed_answers(
            field_of(record, self.options.answers, 'answers', place), context, self._field, place
        )
        if not answers and not self.options.unanswerable:
            raise UserError(
                f'{self._field}: {place} has no answer; set objective.options.unanswerable=True to '
                'learn that some have none'
            )
        first, last = ids_of(answers[0], spans_n2, self._field, place) if answers else NOWHERE
        right = as_ids(json.dumps([text for text, _ in answers], ensure_ascii=False))
        windows = cut_windows(len(encoded.ids), self.options.window, self.options.stride)
        examples = []
        for number, (begin, stop) in enumerate(windows):
            held = begin <= first and last < stop
            here_n2 = spans_n2[begin:stop]
            from_character, before = int(here_n2[0, 0]), int(here_n2[-1, 1])
            examples.append(
                [
                    question.ids,
                    encoded.ids[begin:stop],
                    np.array([first - begin, last - begin] if held else [], np.int32),
                    np.array([number, len(windows)], np.int32),
                    (here_n2 - from_character).reshape(-1),
                    as_ids(context[from_character:before]),
                    right,
                ]
            )
        return examples

    def labels(self, record: Record) -> Iterable[str]:
        """There are none."""
        del record
        return ()


@dataclass(frozen=True)
class QuestionAnswering(OfExamples):
    """Rows of a question and a window of its context, with two targets: first and last place."""

    options: Options
    target_len: int = 2
    FITTING_OPTION = 'window'

    def places(self, lengths_NF: Int[np.ndarray, 'N F']) -> list[Side]:
        """The question, the window and the special ids."""
        special = special_ids(True, self.vocabulary)
        return [('train.seq_len', lengths_NF[:, 0] + lengths_NF[:, 1] + special, self.seq_len)]

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Both texts as BERT reads them, and where the answer lies: at bos, if nowhere."""
        del rng
        question, context, answer, *_ = fields_of(row, 7)
        batch, _, _ = joined(question, context, self.vocabulary, self.seq_len)
        begin = begin_of_second(len(question), self.vocabulary)
        targets = answer + begin if len(answer) else np.zeros(2)
        return batch._replace(targets=targets.astype(np.int32), loss_weights=np.ones(2, np.float32))

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the first and of the last place, each over the places that may be."""
        import jax.numpy as jnp

        logits_BT2 = jnp.where(may_answer(batch)[..., None], logits_BTV, -jnp.inf)
        return weighted_cross_entropy(jnp.moveaxis(logits_BT2, -1, 1), batch)

    def target_words(self, row: Batch) -> str:
        """The pieces of the answer."""
        first, last = np.asarray(row.targets)
        if not last:
            return 'no answer'
        assert self.vocabulary.pieces is not None
        said = ''.join(self.vocabulary.pieces(np.asarray(row.tokens)[first : last + 1]))
        return f'{said} (places {first} to {last})'

    def predictions(self, logits_BTV: LogitsBTV, batch: Batch) -> 'jax.Array':
        """The likeliest span of the context, [B, 4]: float32, in which every place is exact.

        Its first and last place, the sum of their logits, and that of bos, which stands for none
        (Devlin et al. 2019, section 4.3): by these windows of one context are compared.
        """
        import jax.numpy as jnp

        start_BT, end_BT = jnp.moveaxis(logits_BTV.astype(jnp.float32), -1, 0)
        in_context_BT = may_answer(batch) & (jnp.asarray(batch.token_types) == 1)
        length = start_BT.shape[1]
        ahead_TT = jnp.arange(length)[None, :] - jnp.arange(length)[:, None]
        allowed_BTT = (ahead_TT >= 0) & (ahead_TT < self.options.max_answer_tokens)
        allowed_BTT = allowed_BTT & in_context_BT[:, :, None] & in_context_BT[:, None, :]
        scores_BTT = jnp.where(allowed_BTT, start_BT[:, :, None] + end_BT[:, None, :], -jnp.inf)
        flat_BN = scores_BTT.reshape(len(scores_BTT), -1)
        first_B, last_B = jnp.divmod(flat_BN.argmax(-1), length)
        none_B = start_BT[:, 0] + end_BT[:, 0]
        return jnp.stack([first_B, last_B, flat_BN.max(-1), none_B], axis=-1).astype(jnp.float32)


def may_answer(batch: Batch) -> Bool[Any, 'B T']:
    """Which places an answer may begin or end at: the context's tokens, and bos for none."""
    import jax.numpy as jnp

    positions_BT = jnp.asarray(batch.positions)
    there_BT = jnp.asarray(batch.segment_ids) > 0
    last_B1 = positions_BT.max(-1, keepdims=True)  # the eos behind the context
    in_context_BT = (jnp.asarray(batch.token_types) == 1) & (positions_BT < last_B1)
    return there_BT & (in_context_BT | (positions_BT == 0))


def codec(options: Options) -> ExampleCodec:
    """How records become examples."""
    return Codec(options)


def check(config: Config) -> None:
    """Refuses settings of plain text, and what asks for a logit of each place."""
    require_default_text_field(config)
    require(
        config.train.z_loss == 0,
        f'train.z_loss={config.train.z_loss}: is of logits at each place; '
        'objective.name=question_answering has two of a row; set it to 0',
    )


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> QuestionAnswering:
    """The objective for rows of `seq_len` tokens."""
    require(seq_len >= 8, f'train.seq_len={seq_len}: too short for a question and a text; raise it')
    return QuestionAnswering(options, vocabulary, seq_len)
