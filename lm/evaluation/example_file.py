"""A fine-tuned model on a file of examples: its loss, its answers and their measures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from lm.config import Config
from lm.data.encoded_examples import encoded_examples
from lm.data.example_rows import ExampleRows
from lm.data.pipeline import batches
from lm.data.sources import Document, Part, Reading, open_source
from lm.data.store import Store
from lm.data.tokenizer import Tokenizer
from lm.errors import UserError, naming
from lm.evaluation.examples import (
    Answer,
    Examined,
    answers_of,
    build_predictor,
    measures_of,
    predicted,
    require_measures,
)
from lm.evaluation.heldout import build_scorer, score_batches
from lm.examples import ExampleCodec
from lm.generation.language_model import LanguageModel
from lm.objectives._labelled import Labelled, PredictsLabels, example_codec, require_known
from lm.objectives._objective import build_objective
from lm.resolution import override


def score_examples(
    model: LanguageModel,
    source: str,
    *,
    batch_size: int,
    measures: Sequence[str] = (),
    num_beams: int | None = None,
    encoding: str | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[str, Any], list[Answer], list[str]]:
    """What a model says to every example of a source, in the form that it was trained in.

    Args:
      model: trained by an objective on examples.
      source: as data.source; what there is to train on of `tfds:NAME` is not read, where it holds
        something out.
      batch_size: rows at once.
      measures: of `lm/evaluation/tasks`; empty: the task's usual ones.
      num_beams: width of the search for texts; None: the likeliest token each time.
      encoding: of the files; None: that of the run's own.
      changes: to the run's config, by dotted path: `train.seq_len`, and of `objective.options`
        which fields are read, what is cut and how.

    Returns:
      `loss` (nats per target), `targets`, `examples`, `truncated` (places that were cut off),
      `objective` and the measures; the answers in the source's order; and the texts
      of each record.

    Raises:
      UserError: a model of plain text, records that are not read, or examples that do not fit.
    """
    config = override(model.config, {**changes, 'eval.measures': tuple(measures)})
    codec = example_codec(config)
    if codec is None:
        raise UserError(
            f'--examples={source}: {config.model.name} was trained by '
            f'objective.name={config.objective.name}, on plain text; give --text or --task'
        )
    require_measures(config)
    tokenizer = model.tokenizer
    objective = build_objective(config, tokenizer.vocabulary)
    assert isinstance(objective, Labelled) and isinstance(tokenizer, Tokenizer)
    if num_beams is not None and isinstance(objective, PredictsLabels):
        raise UserError(
            f'--num_beams={num_beams}: objective.name={config.objective.name} says labels, no text'
        )
    documents = _records(config, source, encoding)
    named = _examples(documents, config, codec, tokenizer)
    if not named:
        raise UserError(f'--examples={source}: holds no example')
    store = Store.of_examples([name for name, _ in named], [fields for _, fields in named])
    rows = ExampleRows(store, objective, objective.row_len, seed=0, shuffle=False)
    made = batches(
        rows, objective.example, batch_size=batch_size, start_row=0, stop_row=len(named), seed=0,
        threads=1,
    )  # fmt: skip
    said = None
    if isinstance(objective, PredictsLabels):
        predictor = build_predictor(model.functional, objective)
        score, said = predicted(predictor, model.params, made, lambda batch: batch)
    else:
        score = score_batches(build_scorer(model.functional, objective), model.params, made)
    found = answers_of(
        Examined(replace(model, config=config), objective, rows, len(named), said, num_beams)
    )
    told = {
        'loss': score.loss,
        'targets': score.targets,
        'examples': len(found),
        'truncated': rows.accounting(0, len(named))['truncated'],
        'objective': config.objective.name,
        **measures_of(config, found),
    }
    texts = [' '.join(codec.texts(json.loads(d.text), d.name)) for d in documents]
    return told, found, texts


def _records(config: Config, source: str, encoding: str | None) -> list[Document]:
    """The records of a source: those held out of `tfds:NAME`, where some are."""
    data = replace(
        config.data,
        source=source,
        sources=None,
        weights=None,
        validation_source='',
        encoding=encoding or config.data.encoding,
    )
    with naming({'data.source': '--examples', 'data.encoding': '--encoding'}):
        opened = open_source(data, examples=True)
        part: Part = 'validation' if opened.has_validation else 'train'
        return list(opened.documents(Reading(), part))


def _examples(
    documents: Sequence[Document], config: Config, codec: ExampleCodec, tokenizer: Tokenizer
) -> list[tuple[str, list[np.ndarray]]]:
    """Name and fields of each example, of labels that the model knows."""
    known = getattr(config.objective.options, 'labels', ())
    encoded = encoded_examples(documents, codec, tokenizer)
    for document in documents:
        for label in codec.labels(json.loads(document.text)):
            require_known(label, known, document.name)
    pairs = zip(documents, encoded, strict=True)
    return [(document.name, fields) for document, record in pairs for fields in record.examples]
