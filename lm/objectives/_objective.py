"""What every objective is: a length of raw row, a host half and a device half."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lm import registry
from lm.batch import Batch, Row
from lm.config import Config
from lm.shapes import LogitsBTV, Scalar
from lm.vocabulary import Vocabulary


class Sums(NamedTuple):
    """A loss before its division: exact under packing, masks, microbatches and sharding.

    Attributes:
      loss: fp32, nats summed over the predictions, each times its weight.
      weight: fp32, the weights summed.
    """

    loss: Scalar
    weight: Scalar


@runtime_checkable
class Objective(Protocol):
    """What the data pipeline, the step and the evaluation know of an objective.

    One whose rows predict few of their places may say so by an attribute `most_targets`, an int: no
    row has more predictions that count, and a step computes no more logits.
    """

    @property
    def row_len(self) -> int:
        """Raw tokens of a packed row."""

    @property
    def overlap(self) -> int:
        """Tokens that a row shares with the one before: context, not read twice."""

    @property
    def boundaries(self) -> bool:
        """Whether packed rows hold a bos before and an eos after each document."""

    @property
    def target_len(self) -> int:
        """Predictions a row, the length of `targets`."""

    @property
    def factorises(self) -> bool:
        """Whether the summed loss is the text's own log-likelihood, so bits per byte exist."""

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Host half: one packed row -> one row of a Batch. A pure function of its arguments."""

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Device half: logits and targets -> sum of nats and sum of weights."""

    def tokens_used(self, batch: Batch) -> int:
        """How many of the raw rows' tokens (overlap not counted twice) the batch still holds."""

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """Rows that ask for the tokens `start` to `stop` of one text, as the model was trained.

        Their weighted targets are these tokens, each once, and the sum of their losses is
        -log p(span | what the objective shows of the text): nothing of the span itself but what
        comes before the token asked for. Only that counts; a sentinel, or the end, does not.

        Args:
          text: int32, ids of a text, without bos or eos.
          start: the span's first token.
          stop: the one behind its last; above `start`.

        Raises:
          ValueError: the text does not fit in a row.
        """


@runtime_checkable
class SaysTexts(Protocol):
    """An objective of which one form says a text from its beginning to its end.

    The likelihood of a text, and with it bits per byte, is that form's; others have none.
    """

    def text_rows(self, text: np.ndarray) -> Iterator[Batch]:
        """Rows that ask for every token of one text, as the model was trained.

        Their weighted targets are the tokens, each once and in order, and the sum of their losses
        is the text's negative log-likelihood: a token is asked for from nothing but what comes
        before it. A sentinel, or the end, does not count.

        Args:
          text: int32, ids of a text of any length, without bos or eos.
        """


def most_asked(objective: Objective) -> int:
    """Places of a row whose logits a step computes: a multiple of 8, or all."""
    most: int = getattr(objective, 'most_targets', objective.target_len)
    return min(-(-most // 8) * 8, objective.target_len)


def build_objective(config: Config, vocabulary: Vocabulary) -> Objective:
    """What a run learns to predict.

    Raises:
      UserError: the objective refuses the sequence length or the vocabulary.
    """
    member = registry.lookup('objectives', config.objective.name, 'objective.name')
    start = getattr(config.model.options, 'decoder_start', None)
    if start is not None:
        vocabulary = dataclasses.replace(vocabulary, decoder_start_id=start)
    given: tuple[Any, ...] = (config.objective.options, vocabulary, config.train.seq_len)
    if len(member.FAMILIES) > 1:
        given += (registry.lookup('models', config.model.name, 'model.name').FAMILY,)
    objective: Objective = member.build(*given)
    return objective


def weighted_cross_entropy(logits_BTV: LogitsBTV, batch: Batch) -> Sums:
    """The device half that all likelihood objectives share: -log p(target), weighted."""
    # Here, so that an objective is looked up without jax.
    import jax.numpy as jnp

    from lm.objectives._cross_entropy import cross_entropy

    weights_BT = jnp.asarray(batch.loss_weights, jnp.float32)
    nats_BT = cross_entropy(logits_BTV, jnp.asarray(batch.targets))
    # A target of weight 0 may be a padding id, whose logit is -inf: 0 * inf must not be NaN.
    return Sums(jnp.sum(jnp.where(weights_BT > 0, nats_BT, 0) * weights_BT), jnp.sum(weights_BT))


def z_penalty(logits_BTV: LogitsBTV, batch: Batch) -> Scalar:
    """log² Z of each prediction, weighted as its loss is, summed: the z-loss before its factor."""
    import jax.numpy as jnp

    from lm.objectives._cross_entropy import squared_log_normaliser

    weights_BT = jnp.asarray(batch.loss_weights, jnp.float32)
    return jnp.sum(squared_log_normaliser(logits_BTV) * weights_BT)
