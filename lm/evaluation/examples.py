"""Held-out examples, asked of a model: the loss on them, its answers, and their measures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import numpy as np

from lm import registry
from lm.batch import Batch
from lm.config import Config, require
from lm.data.example_rows import ExampleRows
from lm.errors import UserError, did_you_mean
from lm.evaluation.heldout import Score
from lm.generation.language_model import LanguageModel
from lm.models.functional import Functional
from lm.objectives._labelled import Labelled, PredictsLabels
from lm.objectives._objective import Sums
from lm.processes import whole
from lm.shapes import Params


class Answer(NamedTuple):
    """What was to be said to an example, and what was said: texts, or lists of them.

    Attributes:
      expected: of several that are right, all.
      said: by the model.
    """

    expected: Any
    said: Any


@dataclass(frozen=True)
class Examined:
    """Examples that were asked of a model.

    Attributes:
      model: who is asked.
      objective: that it was trained with.
      rows: the examples, in the store's order.
      count: so many of them, from the first.
      predictions: [count, ...] of an objective that `PredictsLabels`; else None.
      num_beams: of a search for texts; None: the likeliest token each time.
    """

    model: LanguageModel
    objective: Labelled
    rows: ExampleRows
    count: int
    predictions: np.ndarray | None
    num_beams: int | None = None


Predictor = Callable[[Params, Batch], tuple[Sums, jax.Array]]


def build_predictor(functional: Functional, objective: PredictsLabels) -> Predictor:
    """Jitted: parameters and a batch -> its sums and what the model says, without dropout."""

    def predict(params: Params, batch: Batch) -> tuple[Sums, jax.Array]:
        logits_BTV = functional.apply(params, batch)
        return objective.loss(logits_BTV, batch), objective.predictions(logits_BTV, batch)

    return jax.jit(predict)


def predicted(
    predictor: Predictor,
    params: Params,
    batches: Iterable[Batch],
    place: Callable[[Batch], Batch],
) -> tuple[Score, np.ndarray]:
    """The sums of all batches, added in float64 on the host, and [rows, ...] said."""
    nats = targets = 0.0
    said: list[np.ndarray] = []
    for batch in batches:
        sums, predictions = predictor(params, place(batch))
        nats += float(sums.loss)
        targets += float(sums.weight)
        said.append(whole(predictions))
    return Score(nats, targets), np.concatenate(said)


def answers_of(examined: Examined) -> list[Answer]:
    """What the model says to each example."""
    answers: list[Answer] = _task(examined.model.config).answers(examined)
    return answers


def measures_of(config: Config, answers: Sequence[Answer]) -> dict[str, float]:
    """The measures that the config asks for, or the task's usual ones; in [0, 1], or as told."""
    task = _task(config)
    names = config.eval.measures or task.MEASURES[: task.DEFAULT]
    found: Mapping[str, float] = task.measures(answers, names)
    return {name: float(found[name]) for name in names}


def require_measures(config: Config) -> None:
    """Refuses measures that the run's task does not have, or whose package is missing.

    Raises:
      UserError: the first of them.
    """
    names = config.eval.measures
    if not names:
        return
    require(
        config.objective.name in registry.names('tasks'),
        f'eval.measures={",".join(names)}: objective.name={config.objective.name} learns from '
        'plain text, whose measure is the loss; leave them unset',
    )
    known = _task(config).MEASURES
    for name in names:
        if name not in known:
            raise UserError(
                f'eval.measures={name}: objective.name={config.objective.name} has no such measure'
                f'{did_you_mean(name, known)} (measures: {", ".join(known)})'
            )
        package = getattr(_task(config), 'PACKAGES', {}).get(name)
        if package and find_spec(package) is None:
            raise UserError(
                f"eval.measures={name}: needs the package {package}; pip install 'lm-lab[tasks]'"
            )


def _task(config: Config) -> Any:
    return registry.lookup('tasks', config.objective.name, 'objective.name')
