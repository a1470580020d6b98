"""The labels that a run tells apart, where its config leaves them to the text."""

import json
from collections.abc import Mapping
from dataclasses import replace

from lm.config import Config
from lm.data.mixture import Mixture
from lm.data.prepare import Prepared, Text
from lm.data.sources import PARTS, Reading
from lm.errors import UserError
from lm.objectives._labelled import example_codec, require_known


def with_labels(config: Config, mixture: Mixture) -> Config:
    """`config` with the labels of the training parts, sorted, and their number.

    Raises:
      UserError: a held-out label that no training part has, or another `model.num_labels`.
    """
    options = config.objective.options
    if not config.model.predicts_labels or not hasattr(options, 'labels'):
        return config
    labels = options.labels or tuple(sorted(_labels(mixture, 'train')))
    if options.labels:
        _require_named(config, mixture)
    strangers = _labels(mixture, 'validation') - {*labels}
    if strangers:
        raise UserError(
            f'{config.data.words}: held out with the label {min(strangers)!r}, which is not '
            f'trained on (labels: {", ".join(labels)}); set objective.options.labels, or hold out '
            'others'
        )
    if len(labels) < 2:
        raise UserError(
            f'{config.data.words}: has one label, {labels[0]!r}: there is nothing to tell apart; '
            'check objective.options and the files'
        )
    asked = config.model.num_labels
    if asked not in (None, len(labels)):
        raise UserError(
            f'model.num_labels={asked}: the text has {len(labels)} ({", ".join(labels)}); leave it '
            'unset'
        )
    objective = replace(config.objective, options=replace(options, labels=labels))
    return replace(config, objective=objective, model=replace(config.model, num_labels=len(labels)))


def require_watched_labels(config: Config, watched: Mapping[str, Prepared]) -> None:
    """Refuses a text of `eval.sources` with a held-out label that is not among the run's."""
    if not config.model.predicts_labels or not hasattr(config.objective.options, 'labels'):
        return
    labels = config.objective.options.labels
    for name, part in watched.items():
        strangers = {*part.accounting['validation']['labels']} - {*labels}
        if strangers:
            raise UserError(
                f'eval.sources={name}: held out with the label {min(strangers)!r}, which is not '
                f'trained on (labels: {", ".join(labels)}); leave it out'
            )


def _require_named(config: Config, mixture: Mixture) -> None:
    """Refuses text with a label that `objective.options.labels` lacks, by the first that has it."""
    labels = config.objective.options.labels
    found = _labels(mixture, 'train') | _labels(mixture, 'validation')
    if found <= {*labels}:
        return
    codec = example_codec(config)
    assert codec is not None
    for name in mixture.names:
        text = Text(replace(config.data, source=name, sources=None, weights=None), codec)
        for part in PARTS:
            for document in text.split.documents(part, Reading()):
                for label in codec.labels(json.loads(document.text)):
                    require_known(label, labels, document.name)


def _labels(mixture: Mixture, part: str) -> set[str]:
    return {label for each in mixture.parts for label in each.accounting[part]['labels']}
