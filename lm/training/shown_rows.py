"""The rows that a step trains on, in words."""

import copy

import numpy as np

from lm.batch import Batch, Row
from lm.config import Config
from lm.data.display import ShownRow, show_row
from lm.data.mixture import prepare_mixture
from lm.data.pipeline import batches, row_number
from lm.objectives._labelled import Labelled, PredictsLabels, example_codec
from lm.objectives._objective import build_objective
from lm.training.evaluate import mixed_rows
from lm.training.found_labels import with_labels


def rows_of_step(config: Config, step: int) -> list[ShownRow]:
    """The rows of the batch that a step of a run trains on, out of the pipeline that trains.

    Args:
      config: a resolved config, from `lm.load_config`.
      step: the first is 1.

    Returns:
      Rows for `lm.data.display.as_text` and `as_html`.

    Raises:
      UserError: the data, the disk or the objective refuses.
    """
    mixture = prepare_mixture(config.data, config.model.vocab_size, example_codec(config))
    config = with_labels(config, mixture)
    tokenizer, train = mixture.tokenizer, config.train
    objective = build_objective(config, tokenizer.vocabulary)
    rows = mixed_rows(objective, mixture, train.seed)
    first_row, again = (step - 1) * train.batch_size, config.data.overfit_batches
    numbers = first_row + np.arange(train.batch_size)
    sources = rows.sources_of(row_number(numbers, train.batch_size, again))
    size = tokenizer.vocabulary.size
    shown: list[ShownRow] = []

    def show(made: Batch, documents: dict[int, str], source: int) -> Batch:
        title = f'step {step}, row {len(shown) + 1} of {train.batch_size}'
        if len(mixture.names) > 1:
            title += f', from {mixture.names[source]}'
        told = made
        if isinstance(objective, PredictsLabels):
            title += f': {objective.target_words(made)}'
            told = made._replace(targets=None, loss_weights=None)
        shown.append(show_row(title, told, documents, tokenizer.pieces))
        return made

    def example(row: Row, generator: np.random.Generator) -> Batch:
        source = int(sources[len(shown)])
        if isinstance(objective, Labelled):
            name = mixture.parts[source].train.name(int(row.documents[0]))
            return show(objective.example(row, generator), {1: name}, source)
        # An objective may leave segments out and number the others anew. The same row once more,
        # with its documents' numbers for tokens, tells where each segment came from.
        twin = copy.deepcopy(generator)
        made = objective.example(row, generator)
        traced = objective.example(row._replace(tokens=row.documents + size), twin)
        documents = {
            int(segment): mixture.parts[source].train.name(int(token) - size)
            for segment, token in zip(traced.segment_ids, traced.tokens, strict=True)
            if token >= size
        }
        return show(made, documents, source)

    next(
        batches(
            rows,
            example,
            batch_size=train.batch_size,
            start_row=first_row,
            seed=train.seed,
            overfit_batches=again,
            threads=0,
        )
    )
    return shown
