"""The step of `lm train` on random rows, taken as its loop takes it."""

import itertools
import time
from typing import Any

import jax
import numpy as np

from lm.batch import Row, stack
from lm.config import Config, require
from lm.errors import UserError
from lm.objectives._objective import Objective, build_objective
from lm.training.program import build_program, resolve_policy
from lm.training.step import Metrics, State
from lm.vocabulary import Vocabulary, placeholder

HELD = 8
"""Batches that lie ready on the host."""


def random_row(
    objective: Objective, vocabulary: Vocabulary, rng: np.random.Generator, documents: int = 1
) -> Row:
    """A full row of ordinary tokens, of so many documents of nearly one length."""
    size = objective.row_len
    first = max(vocabulary.special_ids) + 1
    tokens = rng.integers(first, vocabulary.size, size).astype(np.int32)
    document = (np.arange(size) * documents // size).astype(np.int32)
    begins = np.searchsorted(document, document)
    positions = (np.arange(size) - begins).astype(np.int32)
    return Row(tokens, document + 1, positions, document)


class LmSteps:
    """A run's steps on random rows: built, compiled, then taken as the loop takes them.

    Attributes:
      program, objective: of the run.
      compile_seconds: tracing, lowering and XLA's compilation.
      loss: of the newest step that was read.
    """

    def __init__(self, config: Config, documents_per_row: int = 1) -> None:
        """Everything but compilation and the state.

        Raises:
          UserError: what the mesh, the objective or the schedule refuses.
        """
        config = resolve_policy(config)
        vocabulary = placeholder(config.model.tokens)
        first = max(vocabulary.special_ids) + 1
        require(
            vocabulary.size > first,
            f'model.vocab_size={vocabulary.size}: give more than the {first} special ids',
        )
        objective = build_objective(config, vocabulary)
        rows = config.train.batch_size
        require(
            1 <= documents_per_row <= config.train.seq_len,
            f'documents_per_row={documents_per_row}: must be from 1 to '
            f'train.seq_len={config.train.seq_len}',
        )
        rng = np.random.default_rng(0)

        def row() -> Row:
            return random_row(objective, vocabulary, rng, documents_per_row)

        batches = [stack([objective.example(row(), rng) for _ in range(rows)]) for _ in range(HELD)]
        self.objective = objective
        # As a run says it: behind several segments there may be padding, which counts as one.
        segments = documents_per_row if documents_per_row == 1 else documents_per_row + 1
        self.program = build_program(config, vocabulary, segments=segments)
        self.loss = float('nan')
        self.compile_seconds = 0.0
        self._row = row()
        self._batches = itertools.cycle(batches)
        self._state: State | None = None

    def compile(self) -> None:
        """Compiles the step; nothing of the state is made."""
        begin = time.perf_counter()
        self._step = self.program.compiled_step(self._row)
        self.compile_seconds = time.perf_counter() - begin

    def take(self, steps: int) -> None:
        """Takes so many steps and waits for the last one; the first call makes the state.

        As in a run, each batch comes from the host's memory and the metrics of a step are read
        while the next one runs.

        Raises:
          UserError: the loss is not finite, so the time says nothing.
        """
        layout = self.program.layout
        held = layout.held_rows(self.program.config.train.batch_size)
        state: Any = self.program.init_state() if self._state is None else self._state
        pending = None
        for _ in range(steps):
            batch = self.program.place(next(self._batches), held)
            state, metrics = self._step(state, batch)
            if layout.blocks_each_step:
                jax.block_until_ready(state)
            if pending is not None:
                self.loss = Metrics.unpacked(pending).loss
            pending = metrics
        if pending is not None:
            self.loss = Metrics.unpacked(pending).loss
        self._state = jax.block_until_ready(state)
        if not np.isfinite(self.loss):
            raise UserError(f'loss {self.loss} after {steps} steps: not a step to be timed')
