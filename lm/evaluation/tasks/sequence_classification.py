"""Labels of texts: accuracy, F1 averaged over the labels, and Matthews' correlation."""

from collections.abc import Sequence

import numpy as np

from lm.evaluation.examples import Answer, Examined
from lm.examples import as_text
from lm.objectives._labelled import fields_of

MEASURES = ('accuracy', 'macro_f1', 'matthews')
DEFAULT = 2


def answers(examined: Examined) -> list[Answer]:
    """The label of each example, and the likeliest one."""
    assert examined.predictions is not None
    labels = examined.model.config.objective.options.labels
    said_N = examined.predictions[: examined.count, 0]
    return [
        Answer(as_text(fields_of(examined.rows.example(number), 3)[2]), labels[said])
        for number, said in enumerate(said_N.tolist())
    ]


def measures(found: Sequence[Answer], names: Sequence[str]) -> dict[str, float]:
    """Every measure.

    `macro_f1` is the mean over the labels that are there or were said, of the harmonic mean of
    precision and recall. `matthews` is that of several classes (Gorodkin 2004); 0 where all
    examples, or all answers, have one label.
    """
    del names
    labels = sorted({label for answer in found for label in (answer.expected, answer.said)})
    place = {label: i for i, label in enumerate(labels)}
    table_CC = np.zeros((len(labels), len(labels)))
    for answer in found:
        table_CC[place[answer.expected], place[answer.said]] += 1
    true_C, said_C, right_C = table_CC.sum(1), table_CC.sum(0), table_CC.diagonal()
    total, right = table_CC.sum(), right_C.sum()
    spread = np.sqrt((total**2 - (true_C**2).sum()) * (total**2 - (said_C**2).sum()))
    agreed = right * total - (true_C * said_C).sum()
    return {
        'accuracy': right / total,
        'macro_f1': float(np.mean(2 * right_C / (true_C + said_C))),
        'matthews': agreed / spread if spread else 0.0,
    }
