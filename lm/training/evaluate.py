"""Held-out evaluation of a run, and the sample printed with it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lm import processes
from lm.batch import Batch
from lm.data.example_rows import ExampleRows
from lm.data.mixed_rows import MixedRows
from lm.data.mixture import Mixture
from lm.data.packing import PackedRows
from lm.data.pipeline import batches
from lm.data.prepare import Prepared
from lm.data.turns import Turns
from lm.evaluation.examples import (
    Examined,
    answers_of,
    build_predictor,
    measures_of,
    predicted,
)
from lm.evaluation.heldout import (
    Score,
    Scorer,
    build_scorer,
    score_batches,
    without_document_ends,
)
from lm.evaluation.said_bytes import said_bytes
from lm.generation.begin import BLANK
from lm.generation.language_model import LanguageModel
from lm.generation.sample import generate
from lm.objectives._labelled import Labelled, PredictsLabels
from lm.objectives._objective import Objective
from lm.shapes import Params
from lm.training.program import Program

SAMPLED: dict[str, Any] = {'temperature': 0.8, 'top_k': 50}
"""How samples that show a run are drawn."""


@dataclass(frozen=True)
class MixtureScore:
    """What a model scores on the held-out text of each source, and on the mixture of them.

    The whole is what the mixture as it is trained on would score: the sources' losses weighted by
    their shares of rows, whatever amounts of text are held out. Bits per byte likewise: the bits
    of a target, so weighted, over the bytes of a target, so weighted. A text that is scored and
    not trained on (`eval.sources`) has no share, and is not part of the whole.

    Attributes:
      names, shares: of the sources; the share is 0 where none is trained on.
      scores: of each source.
      text_bytes: UTF-8 bytes of the held-out text of each source that was scored; None where they
        are not known (`said_bytes`) or the loss is not the text's own likelihood.
      measured: of each source of examples its task's measures, by name.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    scores: tuple[Score, ...]
    text_bytes: tuple[int | None, ...]
    measured: tuple[dict[str, float], ...] = ()

    @property
    def measures(self) -> dict[str, float]:
        """The sources' measures, weighted by their shares; none of plain text."""
        names = self.measured[0] if self.measured else ()
        return {
            name: sum(
                share * found[name] for share, found in zip(self.shares, self.measured, strict=True)
            )
            for name in names
        }

    @property
    def loss(self) -> float:
        """Nats per target of the mixture."""
        return sum(share * score.loss for share, score, _ in self._trained_on)

    @property
    def targets(self) -> float:
        """Targets scored, of all sources that are trained on."""
        return sum(score.targets for _, score, _ in self._trained_on)

    @property
    def bits_per_byte(self) -> float | None:
        """Of the mixture; None where there is no such thing."""
        nats = text_bytes = 0.0
        for share, score, size in self._trained_on:
            if size is None:
                return None
            scale = share * (self.targets / max(score.targets, 1))
            nats += scale * score.nats
            text_bytes += scale * size
        return nats / math.log(2) / max(text_bytes, 1)

    @property
    def _trained_on(self) -> list[tuple[float, Score, int | None]]:
        parts = zip(self.shares, self.scores, self.text_bytes, strict=True)
        return [part for part in parts if part[0] > 0]

    @property
    def by_source(self) -> dict[str, dict[str, Any]]:
        """`loss`, `targets` and, where they are known, `bits_per_byte` of each source."""
        rows: dict[str, dict[str, Any]] = {
            name: {'loss': score.loss, 'targets': score.targets}
            for name, score in zip(self.names, self.scores, strict=True)
        }
        for row, score, size in zip(rows.values(), self.scores, self.text_bytes, strict=True):
            if size is not None:
                row['bits_per_byte'] = score.bits_per_byte(size)
        for row, found in zip(rows.values(), self.measured, strict=False):
            row |= found
        return rows


@dataclass
class HeldOut:
    """The held-out rows of a run and the compiled scorer.

    Rows, and what the objective hides in them, are the same at every evaluation, and those of a
    source the same as in a run on that source alone.

    Attributes:
      program: of the run.
      mixture: what it trains on.
      watched: the texts that are scored beside it, by name.
    """

    program: Program
    mixture: Mixture
    watched: Mapping[str, Prepared]

    def __post_init__(self) -> None:
        functional, objective = self.program.functional, self.program.objective
        self._scorer: Scorer = build_scorer(functional, objective)
        if isinstance(objective, PredictsLabels):
            self._predictor = build_predictor(functional, objective)
        self._sizes: dict[tuple[str, int | None], int | None] = {}
        if isinstance(objective, Labelled):
            for part in (*self.mixture.parts, *self.watched.values()):
                self._rows(part)  # refuses, before the run, what does not fit in a row

    def score(self, params: Params, most_batches: int | None) -> MixtureScore:
        """The loss on the first `most_batches` held-out batches of each source, or on all."""
        texts = {**dict(zip(self.mixture.names, self.mixture.parts, strict=True)), **self.watched}
        scored = [self._score_of(part, params, most_batches) for part in texts.values()]
        return MixtureScore(
            (*texts,),
            self.mixture.shares + (0.0,) * len(self.watched),
            tuple(score for score, _ in scored),
            tuple(self._size_of(name, part, most_batches) for name, part in texts.items()),
            tuple(measures for _, measures in scored if measures),
        )

    def _score_of(
        self, part: Prepared, params: Params, most_batches: int | None
    ) -> tuple[Score, dict[str, float]]:
        objective, layout = self.program.objective, self.program.layout
        batches = islice(self._batches(part), most_batches)
        held = layout.held_rows(self._batch_size)

        def place(batch: Batch) -> Batch:
            return layout.place(batch, held)

        if not isinstance(objective, Labelled):
            return score_batches(self._scorer, params, batches, place), {}
        rows = self._rows(part)
        assert isinstance(rows, ExampleRows)
        count = rows.rows_per_epoch
        if most_batches is not None:
            count = min(count, most_batches * self._batch_size)
        said = None
        if isinstance(objective, PredictsLabels):
            score, said = predicted(self._predictor, params, batches, place)
        else:
            score = score_batches(self._scorer, params, batches, place)
        examined = Examined(self._model(params), objective, rows, count, said)
        return score, measures_of(self.program.config, answers_of(examined))

    def _model(self, params: Params) -> LanguageModel:
        tokenizer = self.mixture.tokenizer
        return LanguageModel(self.program.config, self.program.functional, params, tokenizer)

    def _size_of(self, name: str, part: Prepared, most_batches: int | None) -> int | None:
        """UTF-8 bytes of what `_score_of` scores; decoded once, where it is not all."""
        if not self.program.objective.factorises:
            return None
        rows = self._rows(part)
        if most_batches is None or most_batches * self._batch_size >= rows.rows_per_epoch:
            return part.validation.text_bytes
        key = name, most_batches
        if key not in self._sizes:
            places = rows.row_len + (most_batches * self._batch_size - 1) * rows.stride
            self._sizes[key] = said_bytes(part.validation, part.tokenizer, places)
        return self._sizes[key]

    @property
    def _batch_size(self) -> int:
        train = self.program.config.train
        return train.batch_size // train.microbatches

    def _rows(self, part: Prepared) -> PackedRows | ExampleRows:
        seed = self.program.config.train.seed
        return packed_rows(self.program.objective, part, seed, held_out=True)

    def _batches(self, part: Prepared) -> Iterator[Batch]:
        objective, rows = self.program.objective, self._rows(part)
        vocabulary = part.tokenizer.vocabulary
        for batch in batches(
            rows,
            objective.example,
            batch_size=self._batch_size,
            held=self.program.layout.held_rows(self._batch_size).numbers,
            start_row=0,
            stop_row=rows.rows_per_epoch,
            seed=0,
            threads=1,
        ):
            yield without_document_ends(batch, vocabulary) if objective.factorises else batch

    def print_sample(self, params: Params) -> None:
        """A sample of text by the model as it stands, on stderr."""
        config = self.program.config
        if config.eval.sample_tokens == 0 or isinstance(self.program.objective, PredictsLabels):
            return
        model = self._model(params)
        if isinstance(self.program.objective, Labelled):
            self._print_answer(model)
            return
        prompt, fill = config.eval.sample_prompt, False
        if model.fills_blanks:
            prompt, fill = prompt or self._blanked(), True
            prompt = prompt if BLANK in prompt else prompt + BLANK
        [text] = generate(
            model,
            [prompt],
            max_new_tokens=config.eval.sample_tokens,
            seed=config.train.seed,
            fill=fill,
            **SAMPLED,
        )
        shown = f'{prompt}\n  -> {text}' if fill else text
        processes.tell(f'sample: {shown}')

    def _print_answer(self, model: LanguageModel) -> None:
        """What the model says to the first held-out example, and what it should."""
        objective, part = self.program.objective, self.mixture.parts[0]
        rows = packed_rows(objective, part, 0, held_out=True)
        assert isinstance(objective, Labelled) and isinstance(rows, ExampleRows)
        [answer] = answers_of(Examined(model, objective, rows, 1, None))
        example = rows.example(0)
        given = model.tokenizer.decode(example.tokens[example.segment_ids == 1])
        processes.tell(f'sample: {given}\n  -> {answer.said}\n  == {answer.expected}')

    def _blanked(self) -> str:
        """The beginning of the first source's held-out text, of every six words one left blank."""
        tokens = self.mixture.parts[0].validation.read(
            0, 0, min(48, self.program.config.train.seq_len // 2)
        )
        words = self.mixture.tokenizer.decode(tokens).split()
        return ' '.join(BLANK if i % 6 == 4 else word for i, word in enumerate(words))


def packed_rows(
    objective: Objective, prepared: Prepared, seed: int, held_out: bool
) -> PackedRows | ExampleRows:
    """The training or the held-out split of one source as rows for the objective.

    Of labelled text these are its examples, one a row.
    """
    store = prepared.validation if held_out else prepared.train
    if isinstance(objective, Labelled):
        return ExampleRows(store, objective, objective.row_len, seed, shuffle=not held_out)
    return PackedRows(
        store,
        prepared.tokenizer.vocabulary,
        objective.row_len,
        objective.overlap,
        seed=seed,
        shuffle=not held_out,
        boundaries=objective.boundaries,
    )


def mixed_rows(objective: Objective, mixture: Mixture, seed: int) -> MixedRows:
    """The training splits of all sources as rows for the objective."""
    sources = [packed_rows(objective, part, seed, held_out=False) for part in mixture.parts]
    return MixedRows(sources, Turns(mixture.weights, seed))
