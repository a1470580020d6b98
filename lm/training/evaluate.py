"""Held-out evaluation of a run, and the sample printed with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lm import processes
from lm.batch import Batch
from lm.data.packing import PackedRows
from lm.data.pipeline import batches
from lm.data.prepare import Prepared
from lm.evaluation.heldout import (
    Score,
    Scorer,
    build_scorer,
    score_batches,
    without_document_ends,
)
from lm.generation.language_model import LanguageModel
from lm.generation.sample import BLANK, generate
from lm.objectives._objective import Objective
from lm.shapes import Params
from lm.training.program import Program


@dataclass
class HeldOut:
    """The held-out rows of a run and the compiled scorer.

    Rows, and what the objective hides in them, are the same at every evaluation.
    """

    program: Program
    prepared: Prepared

    def __post_init__(self) -> None:
        self._scorer: Scorer = build_scorer(self.program.functional, self.program.objective)

    def score(self, params: Params, most_batches: int | None) -> Score:
        """The loss on the first `most_batches` batches of held-out rows, or on all of them."""
        layout, batches = self.program.layout, islice(self._batches(), most_batches)
        held = layout.held_rows(self._batch_size)
        return score_batches(self._scorer, params, batches, lambda b: layout.place(b, held))

    def bits_per_byte(self, score: Score) -> float | None:
        """Of a score of all rows; None where the loss is not the text's own likelihood."""
        if not self.program.objective.factorises:
            return None
        return score.bits_per_byte(self.prepared.validation.text_bytes)

    @property
    def _batch_size(self) -> int:
        train = self.program.config.train
        return train.batch_size // train.microbatches

    def _batches(self) -> Iterator[Batch]:
        config, objective = self.program.config.train, self.program.objective
        rows = packed_rows(objective, self.prepared, config.seed, held_out=True)
        vocabulary = self.prepared.tokenizer.vocabulary
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
        if config.eval.sample_tokens == 0:
            return
        model = LanguageModel(config, self.program.functional, params, self.prepared.tokenizer)
        prompt, fill = config.eval.sample_prompt, False
        if model.fills_blanks:
            prompt, fill = prompt or self._blanked(), True
            prompt = prompt if BLANK in prompt else prompt + BLANK
        [text] = generate(
            model,
            [prompt],
            max_new_tokens=config.eval.sample_tokens,
            temperature=0.8,
            top_k=50,
            seed=config.train.seed,
            fill=fill,
        )
        shown = f'{prompt}\n  -> {text}' if fill else text
        processes.tell(f'sample: {shown}')

    def _blanked(self) -> str:
        """The beginning of the held-out text with a word in every six left blank."""
        tokens = self.prepared.validation.read(
            0, 0, min(48, self.program.config.train.seq_len // 2)
        )
        words = self.prepared.tokenizer.decode(tokens).split()
        return ' '.join(BLANK if i % 6 == 4 else word for i, word in enumerate(words))


def packed_rows(objective: Objective, prepared: Prepared, seed: int, held_out: bool) -> PackedRows:
    """The training or the held-out split as rows for the objective."""
    return PackedRows(
        prepared.validation if held_out else prepared.train,
        prepared.tokenizer.vocabulary,
        objective.row_len,
        objective.overlap,
        seed=seed,
        shuffle=not held_out,
        boundaries=objective.boundaries,
    )
